"""The vision tower's layers, with the signatures of qwen_ref/model/vision_block.py.

What a matrix is stored in says how it is multiplied: floats meet float32, quantized weights, as in the text
model, integers of 8 bits. All else, attention too, is float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numba import prange

from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.elementwise import sigmoid
from qwen_ref.kernels.layers import (
    FLOAT,
    by_integers,
    float_product,
    product,
    product_of_floats,
    quantize,
    shows_nothing,
)
from qwen_ref.kernels.matmul_float import ROWS, TOKENS, add_block, add_product
from qwen_ref.kernels.simd import add, exp, fma, load_f32x16, maximum, mul, splat, store, sub, sum_lanes
from qwen_ref.model import norm as numpy_norm
from qwen_ref.model import vision_block as numpy_block
from qwen_ref.model.matrix import Matrix
from qwen_ref.model.weights import GeluMlpWeights, VisionAttentionWeights

PIECE = 256  # keys whose scores, for some queries, stay in the nearest cache
TOGETHER = 128  # patches whose rows between two products stay in the second one


@kernel(parallel=True)
def layer_norm_many(x, weight, bias, eps, out):
    """x [N, C], weight and bias [C] -> out [N, C]; C a multiple of 16."""
    for n in prange(x.shape[0]):
        size = x.shape[1]
        total = splat(np.float32(0))
        for i in range(0, size, 16):
            total = add(total, load_f32x16(x[n], i))
        mean = splat(sum_lanes(total) / np.float32(size))
        squares = splat(np.float32(0))
        for i in range(0, size, 16):
            centred = sub(load_f32x16(x[n], i), mean)
            squares = fma(centred, centred, squares)
        scale = splat(np.float32(1 / np.sqrt(sum_lanes(squares) / np.float32(size) + eps)))
        for i in range(0, size, 16):
            normed = mul(sub(load_f32x16(x[n], i), mean), scale)
            store(out[n], i, fma(normed, load_f32x16(weight, i), load_f32x16(bias, i)))


@kernel(parallel=True)
def add_bias(y, bias):
    """y [N, C] += bias [C], in place."""
    for n in prange(y.shape[0]):
        for i in range(y.shape[1]):
            y[n, i] += bias[i]


@kernel(parallel=True)
def gelu_tanh_many(x):
    """In place: x / 2 * (1 + tanh(u)) = x * sigmoid(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    for n in prange(x.shape[0]):
        slope, cubic = np.float32(2 * math.sqrt(2 / math.pi)), np.float32(0.044715)
        for i in range(0, x.shape[1], 16):
            v = load_f32x16(x[n], i)
            u = mul(mul(v, splat(slope)), fma(mul(v, v), splat(cubic), splat(np.float32(1))))
            store(x[n], i, mul(v, sigmoid(u)))


@kernel(parallel=True)
def gelu_many(x):
    """In place: x / 2 * (1 + erf(x / sqrt(2)))."""
    for n in prange(x.shape[0]):
        for i in range(x.shape[1]):
            v = np.float64(x[n, i])
            x[n, i] = np.float32(0.5 * v * (1 + math.erf(v * math.sqrt(0.5))))


@kernel(parallel=True)
def cut_heads(qkv, start, cos, sin, queries, keys, values):
    """P patches of a frame, from `start` on: qkv [P, 3*H*D], cos and sin [N, D/2] -> turned queries, scaled
    by 1 / sqrt(D), as tiles [H, N'/ROWS, D * ROWS]; turned keys as packs [H, N'/TOKENS, D * TOKENS]; values,
    transposed, as packs [H, D/TOKENS, N' * TOKENS]. N' is N rounded up; what is missing must be zero.
    """
    heads, size = queries.shape[0], qkv.shape[1] // (3 * queries.shape[0])
    half = size // 2
    for h in prange(heads):
        scale = np.float32(1 / math.sqrt(size))
        q_at, k_at, v_at = h * size, (heads + h) * size, (2 * heads + h) * size
        for n in range(start, start + qkv.shape[0]):
            query, key = queries[h, n // ROWS], keys[h, n // TOKENS]
            q_lane, k_lane, row = n % ROWS, n % TOKENS, qkv[n - start]
            for i in range(half):
                c, s = cos[n, i], sin[n, i]
                a, b = row[q_at + i] * scale, row[q_at + half + i] * scale
                query[i * ROWS + q_lane] = a * c - b * s
                query[(half + i) * ROWS + q_lane] = b * c + a * s
                a, b = row[k_at + i], row[k_at + half + i]
                key[i * TOKENS + k_lane] = a * c - b * s
                key[(half + i) * TOKENS + k_lane] = b * c + a * s
            for i in range(size):
                values[h, i // TOKENS, n * TOKENS + i % TOKENS] = row[v_at + i]


@kernel()
def softmax_columns(scores, count, highest, total, mixed, column):
    """16 columns of the first `count` scores [PIECE, ROWS] become exp(score - highest), in place, the others
    zero. `highest` and `total` [ROWS] are of all pieces until now; what was mixed of them, [D, ROWS], is
    scaled."""
    best = load_f32x16(highest, column)
    for s in range(count):
        best = maximum(best, load_f32x16(scores[s], column))
    share = exp(sub(load_f32x16(highest, column), best))
    added = mul(load_f32x16(total, column), share)
    for s in range(count):
        p = exp(sub(load_f32x16(scores[s], column), best))
        store(scores[s], column, p)
        added = add(added, p)
    for s in range(count, scores.shape[0]):
        store(scores[s], column, splat(np.float32(0)))
    store(highest, column, best)
    store(total, column, added)
    for i in range(mixed.shape[0]):
        store(mixed[i], column, mul(load_f32x16(mixed[i], column), share))


@kernel(parallel=True)
def attend_all(queries, keys, values, out):
    """Arguments as cut_heads leaves them -> out [N, H*D]. All is transposed: the scores [PIECE, ROWS] of ROWS
    queries and some keys are, after the softmax, the tile that meets the values.
    """
    heads, blocks = queries.shape[0], queries.shape[1]
    size, patches = queries.shape[2] // ROWS, out.shape[0]
    for task in prange(heads * blocks):
        h, block = task // blocks, task % blocks
        highest, total = np.full(ROWS, -np.inf, np.float32), np.zeros(ROWS, np.float32)
        scores, mixed = np.empty((PIECE, ROWS), np.float32), np.zeros((size, ROWS), np.float32)
        for start in range(0, patches, PIECE):
            stop = min(start + PIECE, keys.shape[1] * TOKENS)
            scores[:] = 0
            add_product(queries[h, block], keys[h, start // TOKENS : stop // TOKENS], scores, 0)
            for column in range(0, ROWS, 16):
                softmax_columns(scores, min(PIECE, patches - start), highest, total, mixed, column)
            for p in range(values.shape[1]):
                add_block(scores.reshape(-1), values[h, p], start, stop, mixed, p * TOKENS, 0)
        first = block * ROWS
        for r in range(min(ROWS, patches - first)):
            share = np.float32(1) / total[r]
            for i in range(size):
                out[first + r, h * size + i] = mixed[i, r] * share


def linear(x: np.ndarray, weight: Matrix, bias: np.ndarray) -> np.ndarray:
    """x [N, K], weight [O, K], bias [O] -> [N, O]."""
    if not by_integers(weight):
        return float_product(x, weight, bias)
    y = product(quantize(x), weight)
    add_bias(y, bias)
    return y


def pieces(patches: int) -> list[slice]:
    """At most TOGETHER at a time, about as many in each: what lies between two products stays in a cache, and
    takes little memory."""
    ends = np.linspace(0, patches, -(-patches // TOGETHER) + 1).astype(int)
    return [slice(*pair) for pair in pairwise(ends.tolist())]


def patch_embed(patches: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    rows = weight.reshape(len(weight), -1)  # [hidden, 3, 2, 16, 16] -> [hidden, 3*2*16*16]
    if rows.shape[1] % 16:
        return numpy_block.patch_embed(patches, weight, bias)
    return product_of_floats(patches, rows.view(np.uint8), bias, FLOAT["F32"])


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    if x.shape[1] % 16:
        return numpy_norm.layer_norm(x, weight, bias, eps)
    out = np.empty_like(x)
    layer_norm_many(x, weight, bias, eps, out)
    return out


def vision_attention(
    x: np.ndarray, w: VisionAttentionWeights, cos: np.ndarray, sin: np.ndarray, num_heads: int
) -> np.ndarray:
    size, patches = x.shape[1] // num_heads, len(cos)
    if size % TOKENS:
        return numpy_block.vision_attention(x, w, cos, sin, num_heads)
    shows_nothing("the vision tower")
    padded = -(-patches // ROWS) * ROWS
    queries = np.zeros((num_heads, padded // ROWS, size * ROWS), np.float32)
    keys = np.zeros((num_heads, padded // TOKENS, size * TOKENS), np.float32)
    values = np.zeros((num_heads, size // TOKENS, padded * TOKENS), np.float32)
    out = np.empty_like(x)
    for start in range(0, len(x), patches):  # frames do not see each other
        frame = slice(start, start + patches)
        for some in pieces(patches):
            qkv = linear(x[frame][some], w.qkv, w.qkv_bias)  # [P, 3*H*D]
            cut_heads(qkv, some.start, cos, sin, queries, keys, values)
        attend_all(queries, keys, values, out[frame])
    for some in pieces(len(x)):
        out[some] = linear(out[some], w.out, w.out_bias)
    return out


def gelu_mlp(
    x: np.ndarray, w: GeluMlpWeights, act: Callable[[np.ndarray], None], twin: Callable[..., np.ndarray]
) -> np.ndarray:
    if len(w.up_bias) % 16:
        return twin(x, w)
    out = np.empty((len(x), w.down.shape[0]), np.float32)
    for some in pieces(len(x)):
        inner = linear(x[some], w.up, w.up_bias)
        act(inner)
        out[some] = linear(inner, w.down, w.down_bias)
    return out


def vision_mlp(x: np.ndarray, w: GeluMlpWeights) -> np.ndarray:
    return gelu_mlp(x, w, gelu_tanh_many, numpy_block.vision_mlp)


def merger(x: np.ndarray, w: GeluMlpWeights) -> np.ndarray:
    return gelu_mlp(x, w, gelu_many, numpy_block.merger)
