"""A look inside a run: every named tensor, attention weights, states after each token, a logit lens.

Always with NumPy's layers, whatever the model was loaded with: inside the kernels' nothing has a name. The
weights are the same; a function that stands in for another (qwen_ref/model/layers.py: replaced), a changed
configuration and an outer `watching` count.

V heads stand in transformers' order here, as in goldens, in which the heads that share a K head lie together;
a GGUF file, and so the model, has them tiled.
"""

from __future__ import annotations

import copy
import fnmatch
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np

from qwen_ref.config import Config
from qwen_ref.engine.backend import is_count
from qwen_ref.errors import QwenRefError, of_type
from qwen_ref.machine import available_memory
from qwen_ref.model.deltanet import gated_delta_recurrent
from qwen_ref.model.layers import NUMPY, Array, replaced
from qwen_ref.model.matrix import Matrix
from qwen_ref.model.text import TextModel
from qwen_ref.model.trace import Watch, in_place_of, part, watcher, watching
from qwen_ref.model.vision import VisionModel
from qwen_ref.prompt import Prompt
from qwen_ref.tokenizer import Tokenizer

if TYPE_CHECKING:
    from qwen_ref.engine.model import Model

LOGITS = 1 << 24  # that exist at a time: 67 positions of Qwen's vocabulary

V_HEADS = ("in_proj_b", "in_proj_a", "beta", "g", "o", "state", "in_proj_z", "norm")
WITH_V_HEADS = ("in_proj_qkv", "conv1d")  # at their end
WITHOUT = ("q_norm", "k_norm", "out_proj")

FOR_STATES = [f"*.linear_attn.{name}" for name in ("q_norm", "k_norm", "conv1d", "g", "beta", "state")]
MIXERS = ("new_state", "attention", "deltanet")  # whose state has another form in the kernels


class Network(Protocol):
    """What computes: a `qwen_ref.engine.Model` that was opened with NumPy's layers, or its `NumpyTwin`."""

    text: TextModel

    @property
    def vision(self) -> VisionModel: ...


Part = TypeVar("Part", TextModel, VisionModel)


class NumpyTwin:
    """The network of a model with NumPy's layers, on the same weights."""

    def __init__(self, model: Model):
        self._model, self.text = model, with_numpy(model.text)

    @property
    def vision(self) -> VisionModel:
        return with_numpy(self._model.vision)


def with_numpy(network: Part) -> Part:
    """A copy that has NumPy's layers and the same weights; what is replaced later is not replaced in it.

    Functions that stand in for the kernels' come along. Raises QwenRefError for mixers, which may be made of
    kernels: their state would not go with NumPy's.
    """
    layers, twin = network.layers, copy.copy(network)
    if layers.name == NUMPY.name:
        return twin
    own = vars(layers)  # what `replaced` has put there
    for name in MIXERS:
        if name in own:
            raise QwenRefError(
                f"layers: {name}: stands in for a kernel, and a look inside is NumPy's; load the model with "
                f"backend='numpy' and use replaced(NUMPY, {name}=...)"
            )
    twin.layers = replaced(NUMPY, **own)
    return twin


# ---- the order of heads


def in_transformers_order(name: str, x: Array, config: Config) -> Array:
    """A tensor of this model, by its name, with its heads in transformers' order; most come back as they are.

    self_attn.weights.N [H / H_kv, T, S] becomes [T, H / H_kv, S]. Raises QwenRefError for another shape.
    """
    if ".self_attn.weights." in name:
        if x.ndim != 3:
            raise QwenRefError(f"{name}: shape {x.shape} should be (H / H_kv, T, S)")
        return x.transpose(1, 0, 2)
    return grouped_heads(name, x, config)


def grouped_heads(name: str, x: Array, config: Config) -> Array:
    """V heads from GGUF's order to transformers', if the tensor has any. Raises QwenRefError."""
    place, _, last = name.rpartition(".")
    if not place.endswith("linear_attn"):
        return x
    H_v = config.linear_num_value_heads
    axis = 0 if last == "state" else 1
    if last in V_HEADS:
        if x.ndim <= axis or x.shape[axis] != H_v:
            raise QwenRefError(f"{name}: shape {x.shape} should have {H_v} V heads in dimension {axis}")
        return untiled(x, axis, config)
    if last in WITH_V_HEADS:
        if x.shape[1:] != (config.conv_channels,):
            raise QwenRefError(f"{name}: shape {x.shape} should be (T, {config.conv_channels})")
        qk, v = np.split(x, [2 * config.key_dim], axis=1)
        v = v.reshape(len(x), H_v, -1)  # [T, H_v*V] -> [T, H_v, V]
        return np.concatenate([qk, untiled(v, 1, config).reshape(len(x), -1)], axis=1)
    of_ones_own = last not in WITHOUT and x.ndim > 1 and x.shape[1] == H_v  # a tap that someone has added
    return untiled(x, 1, config) if of_ones_own else x


def untiled(x: Array, axis: int, config: Config) -> Array:
    """V head v * H_k + k, as GGUF has it, goes to k * (H_v / H_k) + v."""
    H_k, H_v = config.linear_num_key_heads, config.linear_num_value_heads
    return np.take(x, np.arange(H_v).reshape(-1, H_k).T.ravel(), axis)


# ---- running the model


def embed(network: Network, prompt: Prompt) -> Array:
    """[T, hidden]: the prompt's tokens, and what the vision tower sees in the places of pictures.

    The tower's taps stand under images.0, images.1, … and videos.0, ….
    """
    x = network.text.embed(prompt.token_ids)
    number = {"image": itertools.count(), "video": itertools.count()}
    seen = []
    for media in prompt.media:
        with part(f"{media.shape.kind}s.{next(number[media.shape.kind])}"):
            patches = np.concatenate(list(media.patches(None)))  # of all time steps, [t*h*w, C*2*16*16]
            seen.append(network.vision.encode(patches, media.grid_thw))
    if seen:
        x[prompt.places] = np.concatenate(seen)
    return x


def run(network: Network, prompt: Prompt, watch: Watch) -> tuple[Array, Array]:
    """Embeddings and final hidden states, [T, hidden]; `watch` sees and may change all that has a name."""
    with watching(watch):
        text, x = network.text, embed(network, prompt)
        return x, text.forward(x, text.new_state(), prompt.positions)


def chosen(names: Sequence[str] | None, name: str) -> bool:
    return names is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in names)


def trace(model: Model, prompt: Prompt, names: Sequence[str] | None) -> Trace:
    """See `qwen_ref.engine.Model.trace`."""
    if not isinstance(names, list | tuple | None):
        raise QwenRefError(f"names: give a list of patterns, of one too, not {of_type(names)}")
    if names is not None and not (names and all(isinstance(name, str) for name in names)):
        raise QwenRefError(f"names: {names!r:.80} is no list of patterns, of one at least")
    network, values = NumpyTwin(model), dict[str, Array]()
    config, T = network.text.config, len(prompt.token_ids)
    room, outer = available_memory() // 2, watcher()

    def fits(nbytes: int) -> None:
        nonlocal room
        room -= nbytes
        if room < 0:
            raise QwenRefError(
                f"the prompt: what is computed on the way of {T} tokens takes more than half of the memory "
                "that is free; names=['layers.3.*'] keeps only those"
            )

    def keep(name: str, x: Array) -> Array | None:
        instead = None if outer is None else outer(name, x)
        if chosen(names, name):
            x = in_place_of(x, instead, name)
            fits(x.nbytes)
            values[name] = np.array(in_transformers_order(name, x, config))
        return instead

    group = config.num_attention_heads // config.num_key_value_heads
    scores = 4 * group * T * T * np.dtype(network.text.dtype).itemsize  # four of this size exist at a time
    fits(scores)
    room += scores
    _, hidden = run(network, prompt, keep)
    if chosen(names, "logits"):
        fits(T * config.vocab_size * hidden.itemsize)
        with watching(keep):
            network.text.logits(hidden)
    if not values:
        raise QwenRefError(f"names: nothing that the model computes fits {', '.join(map(str, names or ()))}")
    tokens = [spelled(token_id, model.tokenizer) for token_id in prompt.token_ids]
    return Trace(network.text, prompt, tokens, values)


def spelled(token_id: int, tokenizer: Tokenizer) -> str:
    """A token's text; where it is only a part of a character its bytes: <0xE2>."""
    given = tokenizer.token_bytes(token_id)
    try:
        return given.decode()
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in given)


# ---- what was seen


class Best(NamedTuple):
    """The likeliest tokens of each place, the likeliest first."""

    token_ids: Array  # [T, top]
    logprobs: Array  # [T, top], natural logarithms


def likeliest(logits: Array, top: int) -> Best:
    """logits [T, vocab] -> the `top` likeliest tokens of each row."""
    top = min(top, logits.shape[1])
    highest = logits.max(axis=1, keepdims=True)
    total = highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
    left, ids = logits.copy(), np.empty((len(logits), top), np.int64)
    for n in range(top):
        ids[:, n] = left.argmax(axis=1)
        np.put_along_axis(left, ids[:, n : n + 1], -np.inf, axis=1)
    return Best(ids, np.take_along_axis(logits, ids, axis=1) - total)


def product(x: Array, weight: Matrix) -> Array:
    """x [T, I], weight [O, I] -> [T, O]: matrix.linear at a fifth of its time where O is a vocabulary, with
    more rounding in float32, of which a lens shows nothing."""
    y = np.empty((len(x), weight.shape[0]), x.dtype)
    for start, panel in weight.panels(x.dtype):
        np.matmul(x, panel.T, out=y[:, start : start + len(panel)])
    return y


class Trace(Mapping[str, Array]):
    """What `Model.trace` saw: a mapping of names to tensors in the order in which they were computed.

    Names, shapes and the order of heads are transformers' and a golden's (docs/golden.md has all of them):
    embed_tokens, layers.0.linear_attn.q_norm, layers.3.self_attn.weights.1, logits; of a picture before them
    images.0.blocks.0.norm1 and so on. In the model's dtype.

    prompt, tokens   what was read, and its T tokens as text, one by one
    config           the network's
    """

    def __init__(self, text: TextModel, prompt: Prompt, tokens: list[str], values: dict[str, Array]):
        self.prompt, self.tokens, self.config = prompt, tokens, text.config
        self._text, self._values = text, values

    def __getitem__(self, name: str) -> Array:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Trace of {len(self)} tensors, {len(self.tokens)} tokens>"

    def tensor(self, name: str) -> Array:
        """Raises QwenRefError, not KeyError, if there is none."""
        if name not in self._values:
            raise QwenRefError(f"{name}: is not in this trace, whose names did not choose it")
        return self._values[name]

    def layers(self, attention: bool) -> list[int]:
        """Numbers of the layers of full attention, or of DeltaNet."""
        return [i for i in range(self.config.num_layers) if self.config.is_full_attention(i) == attention]

    def attention(self, layer: int) -> Array:
        """[H, T, T] of a layer of full attention: the share that head h of token t gives to token s, which is
        0 where s > t. transformers' `attentions[layer]`. Raises QwenRefError."""
        with_attention = self.layers(attention=True)
        if not is_count(layer, least=0) or layer not in with_attention:
            numbers = ", ".join(map(str, with_attention))
            raise QwenRefError(f"layer {layer!r:.80}: has no attention weights; those are layers {numbers}")
        names = [f"layers.{layer}.self_attn.weights.{n}" for n in range(self.config.num_key_value_heads)]
        return np.concatenate([self.tensor(name).swapaxes(0, 1) for name in names])  # of [T, G, T] each

    @cached_property
    def states(self) -> States:
        """DeltaNet's states after each token."""
        return States(self)

    def lens(self, top: int = 5, progress: Callable[[int, int], None] | None = None) -> dict[str, Best]:
        """The logit lens: what the model would say next if it ended there, of each token in each half layer.

        The residual stream behind each mixer (layers.N.mixed) and MLP (layers.N.output), through the model's
        last norm and its head -> the `top` likeliest tokens. The last is what the model says.
        (nostalgebraist, "interpreting GPT: the logit lens", 2020.) `progress` is called with how many are
        done, of how many.
        """
        if not is_count(top):
            raise QwenRefError(f"top: {top!r:.80} is not a whole number from 1 on")
        text = self._text
        norm, eps = text.weights.final_norm, text.config.rms_norm_eps
        places = [f"layers.{i}.{half}" for i in range(text.config.num_layers) for half in ("mixed", "output")]
        x = np.concatenate([self.tensor(name) for name in places])  # [2*layers*T, hidden]
        head = product if text.layers.lm_head is NUMPY.lm_head else text.layers.lm_head
        step, best = max(1, LOGITS // text.config.vocab_size), []
        for start in range(0, len(x), step):
            if progress:
                progress(start, len(x))
            some = text.layers.rms_norm(x[start : start + step], norm, eps)
            best.append(likeliest(head(some, text.weights.output), top))
        ids, logprobs = (np.concatenate(parts) for parts in zip(*best))
        cut = np.arange(1, len(places)) * len(self.tokens)
        return {name: Best(*pair) for name, *pair in zip(places, np.split(ids, cut), np.split(logprobs, cut))}


class DeltaInputs(NamedTuple):
    """What the delta rule of a layer is given, for each V head its own: `gated_delta_recurrent` takes it."""

    q: Array  # [T, H_v, K], scaled
    k: Array  # [T, H_v, K]
    v: Array  # [T, H_v, V]
    g: Array  # [T, H_v], the logarithm of the decay
    beta: Array  # [T, H_v]


class States(Mapping[int, Array]):
    """DeltaNet's states after each token: a mapping of layers to [T, H_v, K, V].

    V heads are in transformers' order. A layer's are computed when they are asked for, and not kept: those of
    the 0.8B are 1 MiB a token. `each(layer)` gives one token's after another, for texts of any length.
    """

    def __init__(self, trace: Trace):
        self._trace = trace

    def __contains__(self, layer: object) -> bool:
        return is_count(layer, least=0) and layer in self._trace.layers(attention=False)

    def __iter__(self) -> Iterator[int]:
        return iter(self._trace.layers(attention=False))

    def __len__(self) -> int:
        return len(self._trace.layers(attention=False))

    def __getitem__(self, layer: int) -> Array:
        """Raises QwenRefError if they take more than half of the memory that is free."""
        c, T = self._trace.config, len(self._trace.tokens)
        size = c.linear_num_value_heads * c.linear_key_head_dim * c.linear_value_head_dim
        nbytes = T * size * self.inputs(layer).v.itemsize
        if nbytes > available_memory() // 2:
            raise QwenRefError(
                f"layer {layer}: its states after each of {T} tokens take {nbytes / 2**30:.1f} GiB, more "
                "than half of the memory that is free; states.each(layer) gives one after another"
            )
        return np.stack(list(self.each(layer)))

    def inputs(self, layer: int) -> DeltaInputs:
        """Raises QwenRefError if it is no layer of DeltaNet."""
        if layer not in self:
            numbers = ", ".join(map(str, self))
            raise QwenRefError(f"layer {layer!r:.80}: has no DeltaNet; those are layers {numbers}")
        c, path = self._trace.config, f"layers.{layer}.linear_attn."
        names = "q_norm", "k_norm", "conv1d", "g", "beta"
        q, k, qkv, g, beta = (self._trace.tensor(path + name) for name in names)
        H_k, H_v = c.linear_num_key_heads, c.linear_num_value_heads
        v = qkv[:, 2 * c.key_dim :].reshape(len(qkv), H_v, -1)  # [T, H_v*V] -> [T, H_v, V]
        q, k = (np.repeat(x, H_v // H_k, axis=1) for x in (q, k))  # V head h reads K head h // (H_v / H_k)
        return DeltaInputs(q / math.sqrt(c.linear_key_head_dim), k, v, g, beta)

    def each(self, layer: int) -> Iterator[Array]:
        """[H_v, K, V] after each of the T tokens: the delta rule once more, on what it was given in the run.

        Raises QwenRefError where it ends in another state than the run did: another rule was in its place.
        """
        inputs = self.inputs(layer)
        state = np.zeros_like(self._trace.tensor(f"layers.{layer}.linear_attn.state"))
        for t in range(len(inputs.v)):
            q, k, v, g, beta = (x[t : t + 1] for x in inputs)
            _, state = gated_delta_recurrent(q, k, v, g, beta, state)
            yield state
        end = self._trace[f"layers.{layer}.linear_attn.state"]
        if abs(state - end).max() > 1e-3 * abs(end).max():
            raise QwenRefError(
                f"layer {layer}: gated_delta_recurrent ends in another state than the run did, whose prompt "
                "gated_delta_chunked reads: both must follow one rule (and a layer that was replaced shows "
                "its states only to watching, one token at a time)"
            )
