"""Watches a transformers model: what a golden observes, under a golden's names.

with observe(model) as found:
    model(input_ids)
report = compare(golden, found)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qwen_ref.oracle.names import ATTENTION, DELTANET, ENDS, LAYER

if TYPE_CHECKING:
    import torch

DELTA_RULE, ROTATE = "torch_chunk_gated_delta_rule", "apply_rotary_pos_emb"


@contextmanager
def observe(model: torch.nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """A dict that fills while the model (Qwen3_5ForConditionalGeneration or …ForCausalLM) runs a prompt.

    One prompt, in one call: a later call overwrites. The state is known if the call uses a cache, as it does
    unless it is told not to.
    """
    from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling

    found: dict[str, torch.Tensor] = {}
    text: Any = getattr(model.model, "language_model", model.model)
    handles, here = [], [""]  # the layer that runs

    def output(name: str) -> Callable[..., None]:
        return lambda module, args, out: found.update({name: out[0] if isinstance(out, tuple) else out})

    def arrives(name: str) -> Callable[..., None]:
        return lambda module, args: found.update({name: args[0]})

    def watch(module: Any, names: list[Any], path: str) -> None:
        for name in names:
            inside = name.transformers.startswith("in ")
            try:
                part = module.get_submodule(name.transformers.removeprefix("in "))
            except AttributeError:
                continue  # the name is not a module's
            if inside:
                handles.append(part.register_forward_pre_hook(arrives(path + name.ours)))
            else:
                handles.append(part.register_forward_hook(output(path + name.ours)))

    watch(text, ENDS[:2], "")
    head: Any = model.lm_head
    handles.append(head.register_forward_hook(output("logits")))
    for i, layer in enumerate(text.layers):
        path = f"layers.{i}."
        watch(layer, LAYER, path)
        handles.append(layer.register_forward_pre_hook(lambda m, args, path=path: here.__setitem__(0, path)))
        if hasattr(layer, "self_attn"):
            watch(layer, ATTENTION, path)
            attention = layer.self_attn
            handles.append(attention.register_forward_hook(weights_of(found, path, attention)))
            handles.append(attention.q_proj.register_forward_hook(halves_of(found, path, attention.head_dim)))
        else:
            watch(layer, DELTANET, path)
            norm = layer.linear_attn.norm
            handles.append(norm.register_forward_hook(heads_of(found, path, layer.linear_attn.num_v_heads)))

    def delta_rule(q: Any, k: Any, v: Any, *args: Any, **options: Any) -> Any:
        path = f"{here[0]}linear_attn."
        o, state = real[DELTA_RULE](q, k, v, *args, **options)
        found.update(
            {
                path + "conv1d": modeling.torch.cat([x.flatten(2) for x in (q, k, v)], -1),
                path + "q_norm": modeling.l2norm(q),
                path + "k_norm": modeling.l2norm(k),
                path + "g": options["g"],
                path + "beta": options["beta"],
                path + "o": o,
            }
        )
        if state is not None:
            found[path + "state"] = state[0]
        return o, state

    def rotate(q: Any, k: Any, *args: Any, **options: Any) -> Any:
        q, k = real[ROTATE](q, k, *args, **options)  # [1, H, T, D] each
        path = f"{here[0]}self_attn."
        found.update({path + "q_rope": q.transpose(1, 2), path + "k_rope": k.transpose(1, 2)})
        return q, k

    real = {name: getattr(modeling, name) for name in (DELTA_RULE, ROTATE)}
    setattr(modeling, DELTA_RULE, delta_rule)
    setattr(modeling, ROTATE, rotate)
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
        for name, function in real.items():
            setattr(modeling, name, function)


def weights_of(found: dict[str, Any], path: str, attention: Any) -> Callable[..., None]:
    """Attention weights [1, H, T, S], which eager attention returns: of a KV head [T, H / H_kv, S]."""

    def hook(module: Any, args: Any, out: Any) -> None:
        if out[1] is not None:
            groups = out[1][0].unflatten(0, (-1, attention.num_key_value_groups))  # [H_kv, H / H_kv, T, S]
            for n, weights in enumerate(groups.transpose(1, 2)):
                found[f"{path}self_attn.weights.{n}"] = weights

    return hook


def heads_of(found: dict[str, Any], path: str, heads: int) -> Callable[..., None]:
    def hook(module: Any, args: Any, out: Any) -> None:
        found[path + "linear_attn.norm"] = out.unflatten(0, (-1, heads))  # [T*H_v, V] -> [T, H_v, V]

    return hook


def halves_of(found: dict[str, Any], path: str, head_dim: int) -> Callable[..., None]:
    def hook(module: Any, args: Any, out: Any) -> None:
        query, gate = out.unflatten(-1, (-1, 2, head_dim)).unbind(-2)  # [1, T, H*2D] -> [1, T, H, D] each
        found.update({path + "self_attn.q_proj": query, path + "self_attn.gate": gate})

    return hook
