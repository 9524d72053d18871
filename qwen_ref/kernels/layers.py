"""The layers of qwen_ref/model/ with the same signatures, made of the kernels beside this file.

Weights of rare types, or with a scale beside them, become float32 first, as in their NumPy twins. Sizes that
vectors do not divide go through these twins.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from qwen_ref.config import Config
from qwen_ref.errors import tell
from qwen_ref.kernels import attention as attend
from qwen_ref.kernels import decode, elementwise, matmul, matmul_float
from qwen_ref.kernels import deltanet as delta
from qwen_ref.kernels.cache import KVCache, new_room, other_state
from qwen_ref.kernels.compile import address
from qwen_ref.kernels.quantize import BLOCK, Quantized, new_quantized, quantize_many, quantize_one
from qwen_ref.model import matrix as numpy_matrix
from qwen_ref.model.cache_types import PLAIN
from qwen_ref.model.matrix import Matrix
from qwen_ref.model.state import LayerBatch, State
from qwen_ref.model.trace import watcher
from qwen_ref.model.weights import AttentionWeights, DeltaNetWeights, MlpWeights, matrices

INTEGER = {  # type -> (its product, columns must be a multiple of this)
    "Q4_0": (matmul.matmul_q4_0, 64),
    "Q8_0": (matmul.matmul_q8_0, 64),
    "IQ4_NL": (matmul.matmul_iq4_nl, 64),
    "Q4_K": (matmul.matmul_q4_k, 256),
    "Q5_K": (matmul.matmul_q5_k, 256),
    "Q6_K": (matmul.matmul_q6_k, 256),
    "IQ4_XS": (matmul.matmul_iq4_xs, 256),
}
FLOAT = {  # type -> its product
    "F32": matmul_float.matmul_f32,
    "F16": matmul_float.matmul_f16,
    "BF16": matmul_float.matmul_bf16,
}


@dataclass
class Input:
    """T activations as floats [T, K], and quantized once for all the matrices that they meet."""

    x: np.ndarray
    quantized: Quantized


def quantize(x: np.ndarray) -> Input:
    result = new_quantized(*x.shape)
    (quantize_one if len(x) == 1 else quantize_many)(x, *result)
    return Input(x, result)


def by_integers(weight: Matrix) -> bool:
    """Does it meet activations in 8 bits?"""
    kind = weight.tensor.type.name
    return kind in INTEGER and weight.shape[1] % INTEGER[kind][1] == 0 and weight.scale == 1


def product(given: Input, weight: Matrix) -> np.ndarray:
    """[T, K], weight [N, K] -> [T, N]."""
    if not by_integers(weight):
        return float_product(given.x, weight)
    y = np.empty((len(given.x), weight.shape[0]), np.float32)
    INTEGER[weight.tensor.type.name][0](weight.data, *given.quantized, y)
    return y


def float_product(x: np.ndarray, weight: Matrix, bias: np.ndarray | None = None) -> np.ndarray:
    """The same with floats, x [T, K], bias [N]; weights of types without a kernel become float32 first."""
    kind, (rows, columns) = weight.tensor.type.name, weight.shape
    if columns % 16:
        return numpy_matrix.linear(x, weight) + (0 if bias is None else bias)
    if kind in FLOAT and weight.scale == 1:
        return product_of_floats(x, weight.data, bias, FLOAT[kind])
    y = np.empty((len(x), rows), np.float32)
    for start, panel in weight.panels(x.dtype):
        some = slice(start, start + len(panel))
        added = None if bias is None else bias[some]
        y[:, some] = product_of_floats(x, panel.view(np.uint8), added, FLOAT["F32"])
    return y


def product_of_floats(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, by: Callable[..., None]
) -> np.ndarray:
    """x [T, K], weight uint8 [N, row bytes], bias [N] -> [T, N]."""
    T, R = 1 if len(x) == 1 else matmul_float.TOKENS, matmul_float.ROWS
    y = np.empty((-(-len(x) // T) * T, -(-len(weight) // R) * R), np.float32)
    added = np.zeros(y.shape[1], np.float32)
    added[: len(weight)] = 0 if bias is None else bias
    by(weight, added, x, y)
    return np.ascontiguousarray(y[: len(x), : len(weight)])  # else what is next is compiled once more


def linear(x: np.ndarray, weight: Matrix) -> np.ndarray:
    return product(quantize(x), weight)


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    out = np.empty_like(x)
    few = len(x) <= elementwise.SERIAL
    (elementwise.rms_norm_few if few else elementwise.rms_norm_many)(x, weight, eps, out)
    return out


_typed: WeakKeyDictionary[Any, dict[tuple[str, str], list[Any] | None]] = WeakKeyDictionary()


def typed(
    weights: AttentionWeights | DeltaNetWeights | MlpWeights, cache_types: tuple[str, str] = PLAIN
) -> list[Any] | None:
    """Product and bytes of each matrix in order, and addresses of other kernels, as decode.py takes them;
    None if a matrix has no kernel.

    Made once for each layer (and types of its cache) and kept as long as its weights are.
    """
    known = _typed.setdefault(weights, {})
    if cache_types not in known:
        own = matrices(weights)
        known[cache_types] = None if any(map(lacks_kernel, own)) else [
            *(part for m in own for part in (product_for_one(m), m.data)),
            *(address(*given) for given in between_products(weights, cache_types)),
        ]  # fmt: skip
    return known[cache_types]


def product_for_one(weight: Matrix) -> int:
    """Its address, or minus it, as decode.product takes it."""
    kind, y = weight.tensor.type.name, np.empty((1, 1), np.float32)
    if kind in FLOAT:
        return -address(FLOAT[kind], weight.data, y[0], y, y)
    return address(INTEGER[kind][0], weight.data, *new_quantized(1, BLOCK), y)


def between_products(
    w: AttentionWeights | DeltaNetWeights | MlpWeights, cache_types: tuple[str, str]
) -> list[tuple[Any, ...]]:
    """The kernels between a mixer's products, each with arguments of the types that it is called with."""
    row = np.empty((1, 1), np.float32)
    if isinstance(w, AttentionWeights):
        keys, values = (new_room(kind, 1, 0, 32, True) for kind in cache_types)
        rest = w.q_norm, w.k_norm, 0.0, row, row, keys, values, 0, row
        return [(attend.append, row, row, row, *rest), (attend.attend, row, keys, values, 0, row)]
    if isinstance(w, DeltaNetWeights):
        S = np.empty((1, 1, 1, 1), np.float32)
        rule = delta.recurrence, row, row, row, w.A, w.dt_bias, 0, S, 0, row
        return [(delta.prepare_many, row, row, w.conv, 0, 0, row), rule]
    return []


def lacks_kernel(weight: Matrix) -> bool:
    by_floats = weight.tensor.type.name in FLOAT and weight.shape[1] % 16 == 0 and weight.scale == 1
    return not (by_integers(weight) or by_floats)


def shows_nothing(layer: str) -> None:
    """Tells whoever watches that there are no taps in here."""
    if watcher():
        tell(
            f"watching: {layer}: the kernels show nothing of what is inside it; model.trace does, and so "
            "does watching a model that was loaded with backend='numpy'"
        )


def mlp(x: np.ndarray, w: MlpWeights) -> np.ndarray:
    shows_nothing("mlp")
    if len(x) == 1 and (given := typed(w)):
        return decode.mlp(x, *given)
    inputs = quantize(x)
    gate, up = product(inputs, w.gate_proj), product(inputs, w.up_proj)
    hidden = new_quantized(*gate.shape)
    (elementwise.silu_times_one if len(x) == 1 else elementwise.silu_times_many)(gate, up, *hidden)
    return product(Input(gate, hidden), w.down_proj)


class Written(NamedTuple):
    """What T tokens do to a DeltaNet layer's memory."""

    raw: np.ndarray  # [T, C]: the convolution's inputs
    qkv: np.ndarray  # [T, C]: its outputs, prepared
    a: np.ndarray  # [T, H_v]
    b: np.ndarray  # [T, H_v]


class DeltaNetState:
    """The convolution's last inputs [k-1, C] and S in slices of 32 columns, [H_v, V/32, K, 32].

    In a step after a mark, S does not move. What its tokens write is kept instead, which is some twenty times
    smaller, and goes into S with the next step, when it is known how many of them stay.
    """

    grows = False

    def __init__(self, conv: np.ndarray, sliced: np.ndarray):
        self.conv, self.sliced = conv, sliced
        self.marked = False  # is the next step's, or the last step's, to be taken back?
        self.before = conv  # as it was before that step
        self.written: Written | None = None  # by that step, as far as it stays
        self.rule: tuple[np.ndarray, np.ndarray, int] | None = None  # how it goes in: A, dt_bias, key heads

    def copy(self) -> DeltaNetState:
        other = copy.copy(self)  # `before` and `written` are replaced and never changed
        other.conv, other.sliced = self.conv.copy(), self.sliced.copy()
        return other

    def mark(self) -> None:
        self.marked = True

    def keep(self, tokens: int) -> None:
        if self.written is not None:
            self.written = Written(*(part[:tokens] for part in self.written))
            self.conv = last_rows(self.before, self.written.raw)

    def arrays(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies of what it remembers, which has no parts of single tokens. What stays goes into S first."""
        if self.written is not None and self.rule is not None:
            _, qkv, a, b = self.written
            o = np.empty((len(qkv), self.sliced.shape[0] * self.sliced.shape[1] * delta.SLICE), np.float32)
            delta.recurrence(qkv, a, b, *self.rule, self.sliced, len(qkv), o)
            self.before, self.written = self.conv, None
        return self.conv.copy(), self.sliced.copy()

    def put(self, conv: np.ndarray, sliced: np.ndarray) -> None:
        self.conv, self.sliced = conv.copy(), sliced.copy()
        self.before = self.conv

    @property
    def nbytes(self) -> int:
        return self.conv.nbytes + self.sliced.nbytes + sum(part.nbytes for part in self.written or ())

    @property
    def recurrent(self) -> np.ndarray:
        raise other_state("deltanet")


def last_rows(past: np.ndarray, new: np.ndarray) -> np.ndarray:
    """As many as `past` has, of both, one after the other; a copy."""
    return np.concatenate([past, new[-len(past) :]])[-len(past) :]


def each(state: Any, tokens: int) -> Iterator[tuple[Any, slice]]:
    """The states in a LayerBatch, or the only one, with the rows of their tokens in a step."""
    start = 0
    batch = state if isinstance(state, LayerBatch) else LayerBatch([state], [tokens])
    for one, length in zip(batch.states, batch.lengths, strict=True):
        yield one, slice(start, start := start + length)


def new_state(config: Config, dtype: type, cache_types: tuple[str, str] = PLAIN) -> State:
    c = config

    def layer(i: int) -> KVCache | DeltaNetState:
        if c.is_full_attention(i):
            return KVCache(c.num_key_value_heads, c.head_dim, cache_types)
        slices = c.linear_value_head_dim // delta.SLICE
        shape = (c.linear_num_value_heads, slices, c.linear_key_head_dim, delta.SLICE)
        return DeltaNetState(
            np.zeros((c.conv_kernel - 1, c.conv_channels), np.float32), np.zeros(shape, np.float32)
        )

    return State([layer(i) for i in range(c.num_layers)], whole=False)


def attention(
    x: np.ndarray,
    w: AttentionWeights,
    cache: KVCache | LayerBatch,
    cos: np.ndarray,
    sin: np.ndarray,
    config: Config,
) -> np.ndarray:
    shows_nothing("self_attn")
    if len(x) == 1 and isinstance(cache, KVCache) and (given := typed(w, cache.types)):
        start = cache.reserve(1)
        rest = w.q_norm, w.k_norm, config.rms_norm_eps, cos, sin, cache.keys, cache.values, start
        return decode.attention_layer(x, *given, *rest)
    inputs = quantize(x)
    q_and_gate, k, v = (product(inputs, m) for m in (w.q_proj, w.k_proj, w.v_proj))
    q = np.empty((len(x), config.num_attention_heads * config.head_dim), np.float32)
    out, norms = np.empty_like(q), (w.q_norm, w.k_norm, config.rms_norm_eps)
    for one, t in each(cache, len(x)):
        start = one.reserve(len(q[t]))
        attend.append(q_and_gate[t], k[t], v[t], *norms, cos[t], sin[t], one.keys, one.values, start, q[t])
        attend.attend(q[t], one.keys, one.values, start, out[t])
    gated = new_quantized(*out.shape)
    elementwise.gate_output(out, q_and_gate, config.head_dim, *gated)
    return product(Input(out, gated), w.o_proj)


def deltanet(
    x: np.ndarray, w: DeltaNetWeights, state: DeltaNetState | LayerBatch, config: Config
) -> np.ndarray:
    shows_nothing("linear_attn")
    plain = isinstance(state, DeltaNetState) and not state.marked and state.written is None
    if len(x) == 1 and plain and (given := typed(w)):
        assert isinstance(state, DeltaNetState)
        sizes = config.rms_norm_eps, config.key_dim, config.linear_num_key_heads
        rest = w.conv, w.A, w.dt_bias, w.norm, *sizes, state.conv, state.sliced
        return decode.deltanet_layer(x, *given, *rest)
    inputs = quantize(x)
    raw, z = product(inputs, w.qkv_proj), product(inputs, w.z_proj)
    a, b = product(inputs, w.a_proj), product(inputs, w.b_proj)
    o = np.empty((len(x), config.value_dim), np.float32)
    for one, t in each(state, len(x)):
        o[t] = delta_rule(raw[t], a[t], b[t], w, one, config)
    gated = new_quantized(*o.shape)
    gate = elementwise.gated_norm_one if len(x) == 1 else elementwise.gated_norm_many
    gate(o, z, w.norm, config.rms_norm_eps, *gated)
    return product(Input(o, gated), w.out_proj)


def delta_rule(
    raw: np.ndarray, a: np.ndarray, b: np.ndarray, w: DeltaNetWeights, state: DeltaNetState, config: Config
) -> np.ndarray:
    """Convolution and recurrence of one sequence: raw [T, C], a and b [T, H_v] -> [T, H_v*V]."""
    tokens, qkv = len(raw), np.empty_like(raw)
    delta.prepare_many(raw, state.conv, w.conv, config.key_dim, config.linear_key_head_dim, qkv)
    new = Written(raw, qkv, a, b)
    rows = new
    if state.written is not None:
        rows = Written(*map(np.concatenate, zip(state.written, new, strict=True)))
    sure = len(rows.raw) - (tokens if state.marked else 0)
    o = np.empty((len(rows.raw), config.value_dim), np.float32)
    state.rule = w.A, w.dt_bias, config.linear_num_key_heads
    delta.recurrence(rows.qkv, rows.a, rows.b, *state.rule, state.sliced, sure, o)
    state.before, state.written = state.conv, new if state.marked else None
    state.conv, state.marked = last_rows(state.conv, raw), False
    return o[-tokens:]
