"""The vision tower's layers, with the signatures of qwen_ref/model/vision_block.py; all sums in float32.

Images matter to the last digit more than to the last millisecond, so nothing is rounded to 8 bits here.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.elementwise import sigmoid
from qwen_ref.kernels.layers import float_product
from qwen_ref.kernels.matmul_float import ROWS, add_product
from qwen_ref.kernels.simd import exp, fma, load_f32x16, max_lanes, maximum, mul, splat, store, sub, sum_lanes
from qwen_ref.model import norm as numpy_norm
from qwen_ref.model.weights import GeluMlpWeights, Matrix, VisionAttentionWeights

QUERIES = 32  # patches of a frame that attend to all its others at once, in one thread


@kernel(parallel=True)
def layer_norm_many(x, weight, bias, eps, out):
    """x [N, C], weight and bias [C] -> out [N, C]; C a multiple of 16."""
    for n in prange(x.shape[0]):
        size = x.shape[1]
        total = splat(np.float32(0))
        for i in range(0, size, 16):
            total = fma(load_f32x16(x[n], i), splat(np.float32(1)), total)
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
def cut_heads(qkv, cos, sin, q, keys, values):
    """One frame: qkv [N, 3*H*D], cos and sin [N, D/2] -> turned q [H, N', D], scaled by 1 / sqrt(D), tiles of
    turned keys [H, N'/16, D * 16] and of values [H, D'/16, N' * 16]. N' and D' are rounded up.
    """
    heads, size = q.shape[0], q.shape[2]
    half = size // 2
    for h in prange(heads):
        scale = np.float32(1 / math.sqrt(size))
        for n in range(qkv.shape[0]):
            at, column = h * size, n % ROWS
            k_tile = keys[h, n // ROWS]
            for i in range(half):
                c, s = cos[n, i], sin[n, i]
                a, b = qkv[n, at + i] * scale, qkv[n, at + half + i] * scale
                q[h, n, i], q[h, n, half + i] = a * c - b * s, b * c + a * s
                k_at = (heads + h) * size + i
                a, b = qkv[n, k_at], qkv[n, k_at + half]
                k_tile[i * ROWS + column] = a * c - b * s
                k_tile[(half + i) * ROWS + column] = b * c + a * s
            for i in range(size):
                values[h, i // ROWS, n * ROWS + i % ROWS] = qkv[n, (2 * heads + h) * size + i]


@kernel(parallel=True)
def attend_all(q, keys, values, patches, out):
    """q, keys and values as cut_heads leaves them -> out [N, H*D], N = patches."""
    heads, padded, size = q.shape
    blocks = padded // QUERIES
    for task in prange(heads * blocks):
        h, first = task // blocks, task % blocks * QUERIES
        scores = np.zeros((QUERIES, padded), np.float32)
        mixed = np.zeros((QUERIES, values.shape[1] * ROWS), np.float32)
        queries = q[h, first : first + QUERIES]
        for g in range((patches + ROWS - 1) // ROWS):
            add_product(keys[h, g], queries, scores, g * ROWS)
        count = min(QUERIES, patches - first)
        for r in range(count):
            row = scores[r]
            for s in range(patches, padded):
                row[s] = -np.inf
            best = splat(np.float32(-np.inf))
            for s in range(0, padded, 16):
                best = maximum(best, load_f32x16(row, s))
            highest, total = splat(max_lanes(best)), splat(np.float32(0))
            for s in range(0, padded, 16):
                p = exp(sub(load_f32x16(row, s), highest))
                store(row, s, p)
                total = fma(p, splat(np.float32(1)), total)
            share = splat(1 / sum_lanes(total))
            for s in range(0, padded, 16):
                store(row, s, mul(load_f32x16(row, s), share))
        for g in range(values.shape[1]):
            add_product(values[h, g], scores, mixed, g * ROWS)
        for r in range(count):
            for i in range(size):
                out[first + r, h * size + i] = mixed[r, i]


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    if x.shape[1] % 16:
        return numpy_norm.layer_norm(x, weight, bias, eps)
    out = np.empty_like(x)
    layer_norm_many(x, weight, bias, eps, out)
    return out


def linear(x: np.ndarray, weight: Matrix, bias: np.ndarray) -> np.ndarray:
    return float_product(x, weight) + bias


def vision_attention(
    x: np.ndarray, w: VisionAttentionWeights, cos: np.ndarray, sin: np.ndarray, num_heads: int
) -> np.ndarray:
    qkv = linear(x, w.qkv, w.qkv_bias)  # [t*h*w, 3*H*D]
    patches, size = len(cos), x.shape[1] // num_heads
    padded = -(-patches // QUERIES) * QUERIES
    q = np.zeros((num_heads, padded, size), np.float32)
    keys = np.zeros((num_heads, padded // ROWS, size * ROWS), np.float32)
    values = np.zeros((num_heads, -(-size // ROWS), padded * ROWS), np.float32)
    out = np.empty_like(x)
    for start in range(0, len(x), patches):  # frames do not see each other
        cut_heads(qkv[start : start + patches], cos, sin, q, keys, values)
        attend_all(q, keys, values, patches, out[start : start + patches])
    return linear(out, w.out, w.out_bias)


def gelu_mlp(x: np.ndarray, w: GeluMlpWeights, exact: bool) -> np.ndarray:
    inner = linear(x, w.up, w.up_bias)
    (gelu_many if exact else gelu_tanh_many)(inner)
    return linear(inner, w.down, w.down_bias)
