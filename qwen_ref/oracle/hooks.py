"""Watches a transformers model: what a golden observes, under a golden's names.

with observe(model) as found:
    model(**inputs)
report = compare(golden, found)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qwen_ref.oracle.names import ATTENTION, DELTANET, ENDS, LAYER, MERGER, VISION, VISION_BLOCK, Name

if TYPE_CHECKING:
    import torch

DELTA_RULE, ONE_TOKEN = "torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"
ROTATE = "apply_rotary_pos_emb"
ROTATE_VISION = "apply_rotary_pos_emb_vision"


@contextmanager
def observe(model: torch.nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """A dict that fills while the model (Qwen3_5ForConditionalGeneration or …ForCausalLM) runs a prompt.

    One prompt, or one piece of it: a later call overwrites. The state is known if the call uses a cache, as
    it does unless it is told not to.
    """
    from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling

    observer = Observer(modeling)
    replaced = {
        **{name: functools.partial(observer.delta_rule, name) for name in (DELTA_RULE, ONE_TOKEN)},
        ROTATE: observer.rotate,
        ROTATE_VISION: observer.rotate_vision,
    }
    try:
        observer.watch_text(model)
        if hasattr(model.model, "visual"):
            observer.watch_vision(model)
        for name, function in replaced.items():
            setattr(modeling, name, function)
        yield observer.found
    finally:
        for name, function in observer.real.items():
            setattr(modeling, name, function)
        for handle in observer.handles:
            handle.remove()


def first_argument(keep: Callable[[Any], None]) -> Callable[[Any, dict[str, Any]], None]:
    return lambda args, options: keep(args[0])


def first_result(keep: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda out: keep(out[0] if isinstance(out, tuple) else out)


class Observer:
    """Hooks on modules where a name is a module's; functions in place of transformers' where it is not.

    found    what was seen so far, under a golden's names
    path     of the layer, or block of the vision tower, that runs
    kinds    of the vision tower's calls that are still to come: "images", "videos"
    patches  of each picture, or clip, in the call that runs
    """

    def __init__(self, modeling: Any):
        self.torch = modeling.torch
        self.l2norm = modeling.l2norm
        self.real = {name: getattr(modeling, name) for name in (DELTA_RULE, ONE_TOKEN, ROTATE, ROTATE_VISION)}
        self.found: dict[str, Any] = {}
        self.handles: list[Any] = []
        self.path = ""
        self.kinds: list[str] = []
        self.patches: list[int] = []

    def before(self, module: Any, see: Callable[[Any, dict[str, Any]], None]) -> None:
        """see(arguments, keyword arguments) before the module runs."""
        self.handles.append(
            module.register_forward_pre_hook(lambda m, args, options: see(args, options), with_kwargs=True)
        )

    def after(self, module: Any, see: Callable[[Any], None]) -> None:
        """see(what it returned) after it has run."""
        self.handles.append(module.register_forward_hook(lambda m, args, out: see(out)))

    def watch(self, module: Any, names: list[Name], keep: Callable[[str, Any], None]) -> None:
        """keep(name, tensor) for those of the names that are parts of this module."""
        for name in names:
            inside = name.transformers.startswith("in ")
            try:
                part = module.get_submodule(name.transformers.removeprefix("in "))
            except AttributeError:
                continue  # the name is not a module's
            if inside:
                self.before(part, first_argument(functools.partial(keep, name.ours)))
            else:
                self.after(part, first_result(functools.partial(keep, name.ours)))

    # ---- the text model

    def watch_text(self, model: Any) -> None:
        text = getattr(model.model, "language_model", model.model)
        self.watch(text, [name for name in ENDS if name.ours == "norm"], self.found.__setitem__)
        self.after(model.lm_head, lambda out: self.found.update(logits=out))
        # Not what embed_tokens gives: pictures stand among it.
        self.before(text.layers[0], lambda args, options: self.found.update(embed_tokens=args[0]))
        self.after(text.rotary_emb, self.see_tables)
        for i, layer in enumerate(text.layers):
            self.watch_layer(f"layers.{i}.", layer)

    def see_tables(self, out: Any) -> None:
        for name, table in zip(("rope.cos", "rope.sin"), out):
            self.found[name] = table[..., : table.shape[-1] // 2]  # [1, T, R], its halves are equal

    def watch_layer(self, path: str, layer: Any) -> None:
        def keep(name: str, x: Any) -> None:
            self.found[path + name] = x

        def weights_of_heads(out: Any) -> None:
            if out[1] is not None:  # [1, H, T, S], which eager attention returns
                groups = out[1][0].unflatten(0, (-1, layer.self_attn.num_key_value_groups))
                for n, weights in enumerate(groups.transpose(1, 2)):  # [H, T, S] -> H_kv of [T, H / H_kv, S]
                    keep(f"self_attn.weights.{n}", weights)

        def query_and_gate(out: Any) -> None:
            halves = out.unflatten(-1, (-1, 2, layer.self_attn.head_dim))  # [1, T, H*2D] -> [1, T, H, 2, D]
            keep("self_attn.q_proj", halves[..., 0, :])
            keep("self_attn.gate", halves[..., 1, :])

        self.before(layer, lambda args, options: setattr(self, "path", path))
        self.watch(layer, LAYER, keep)
        if hasattr(layer, "self_attn"):
            self.watch(layer, ATTENTION, keep)
            self.after(layer.self_attn, weights_of_heads)
            self.after(layer.self_attn.q_proj, query_and_gate)
        else:
            heads = layer.linear_attn.num_v_heads
            self.watch(layer, [name for name in DELTANET if name.ours != "linear_attn.norm"], keep)
            self.after(  # [T*H_v, V] -> [T, H_v, V]
                layer.linear_attn.norm, lambda out: keep("linear_attn.norm", out.unflatten(0, (-1, heads)))
            )

    def delta_rule(self, name: str, q: Any, k: Any, v: Any, *args: Any, **options: Any) -> Any:
        o, state = self.real[name](q, k, v, *args, **options)
        seen = {
            "conv1d": self.torch.cat([x.flatten(2) for x in (q, k, v)], -1),
            "q_norm": self.l2norm(q),
            "k_norm": self.l2norm(k),
            "g": options["g"],
            "beta": options["beta"],
            "o": o,
        }
        if state is not None:
            seen["state"] = state[0]
        self.found.update({f"{self.path}linear_attn.{name}": x for name, x in seen.items()})
        return o, state

    def rotate(self, q: Any, k: Any, *args: Any, **options: Any) -> Any:
        q, k = self.real[ROTATE](q, k, *args, **options)  # [1, H, T, D] each
        path = f"{self.path}self_attn."
        self.found.update({path + "q_rope": q.transpose(1, 2), path + "k_rope": k.transpose(1, 2)})
        return q, k

    # ---- the vision tower

    def watch_vision(self, model: Any) -> None:
        visual = model.model.visual

        def expect(args: Any, options: dict[str, Any]) -> None:
            given = {"images": "pixel_values", "videos": "pixel_values_videos"}
            self.kinds = [kind for kind, name in given.items() if options.get(name) is not None]

        def begin(args: Any, options: dict[str, Any]) -> None:
            self.patches = options["grid_thw"].prod(-1).tolist()
            self.keep_media("pixel_values", args[0])

        self.before(model, expect)
        self.before(visual, begin)
        self.watch(visual, [*VISION[1:], *MERGER], self.keep_media)
        for i, block in enumerate(visual.blocks):
            self.watch_block(f"blocks.{i}.", block)
        self.after(visual, lambda out: self.kinds.remove(self.kinds[0]))

    def watch_block(self, path: str, block: Any) -> None:
        self.before(block, lambda args, options: setattr(self, "path", path))
        self.watch(block, VISION_BLOCK, lambda name, x: self.keep_media(path + name, x))

    def keep_media(self, name: str, x: Any) -> None:
        """The rows of all pictures, or clips, of a call lie behind one another."""
        patches_of_a_row = sum(self.patches) // len(x)  # 4 in the merger
        for n, piece in enumerate(x.split([patches // patches_of_a_row for patches in self.patches])):
            self.found[f"{self.kinds[0]}.{n}.{name}"] = piece

    def rotate_vision(self, q: Any, k: Any, *args: Any, **options: Any) -> Any:
        q, k = self.real[ROTATE_VISION](q, k, *args, **options)  # [patches, H, D] each
        self.keep_media(f"{self.path}attn.q_rope", q)
        self.keep_media(f"{self.path}attn.k_rope", k)
        return q, k
