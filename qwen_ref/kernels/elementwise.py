"""Norms, activations and rotations around the matrix products. All float32; rows are multiples of 16 long."""

from __future__ import annotations

import numpy as np
from numba import prange

from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.quantize import quantize_row
from qwen_ref.kernels.simd import div, exp, fma, load_f32x16, mul, splat, store, sum_lanes

SERIAL = 16  # so few rows are not worth a parallel loop


@kernel()
def sigmoid(v):
    """Of 16 lanes."""
    one = splat(np.float32(1))
    return div(one, fma(exp(mul(v, splat(np.float32(-1)))), one, one))


@kernel()
def sum_of_squares(x, start, length):
    acc = splat(np.float32(0))
    for i in range(start, start + length, 16):
        v = load_f32x16(x, i)
        acc = fma(v, v, acc)
    return sum_lanes(acc)


@kernel()
def norm_row(x, weight, eps, out):
    n = x.shape[0]
    scale = splat(np.float32(1 / np.sqrt(sum_of_squares(x, 0, n) / n + eps)))
    for i in range(0, n, 16):
        store(out, i, mul(mul(load_f32x16(x, i), scale), load_f32x16(weight, i)))


@kernel()
def rms_norm_few(x, weight, eps, out):
    """x [T, N], weight [N] -> out [T, N]."""
    for t in range(x.shape[0]):
        norm_row(x[t], weight, eps, out[t])


@kernel(parallel=True)
def rms_norm_many(x, weight, eps, out):
    """The same, by all threads."""
    for t in prange(x.shape[0]):
        norm_row(x[t], weight, eps, out[t])


@kernel()
def silu_times_row(gate, up, q, d, sums, d_sums):
    """silu(gate) * up, quantized; `gate` is overwritten."""
    for i in range(0, gate.shape[0], 16):
        g = load_f32x16(gate, i)
        store(gate, i, mul(mul(g, sigmoid(g)), load_f32x16(up, i)))
    quantize_row(gate, q, d, sums, d_sums)


@kernel()
def silu_times_one(gate, up, q, d, sums, d_sums):
    silu_times_row(gate[0], up[0], q[0], d[0], sums[0], d_sums[0])


@kernel(parallel=True)
def silu_times_many(gate, up, q, d, sums, d_sums):
    """gate, up [T, N] -> silu(gate) * up as a Quantized; `gate` is overwritten."""
    for t in prange(gate.shape[0]):
        silu_times_row(gate[t], up[t], q[t], d[t], sums[t], d_sums[t])


@kernel()
def gated_norm_row(o, z, weight, eps, q, d, sums, d_sums):
    """Per head: rms_norm(o) * silu(z), quantized; `o` is overwritten."""
    size = weight.shape[0]
    for start in range(0, o.shape[0], size):
        scale = splat(np.float32(1 / np.sqrt(sum_of_squares(o, start, size) / size + eps)))
        for i in range(0, size, 16):
            gate = load_f32x16(z, start + i)
            normed = mul(mul(load_f32x16(o, start + i), scale), load_f32x16(weight, i))
            store(o, start + i, mul(normed, mul(gate, sigmoid(gate))))
    quantize_row(o, q, d, sums, d_sums)


@kernel()
def gated_norm_one(o, z, weight, eps, q, d, sums, d_sums):
    gated_norm_row(o[0], z[0], weight, eps, q[0], d[0], sums[0], d_sums[0])


@kernel(parallel=True)
def gated_norm_many(o, z, weight, eps, q, d, sums, d_sums):
    """o, z [T, H*V], weight [V] -> rms_norm(o) * silu(z) per head, as a Quantized; `o` is overwritten."""
    for t in prange(o.shape[0]):
        gated_norm_row(o[t], z[t], weight, eps, q[t], d[t], sums[t], d_sums[t])


@kernel()
def gate_output_row(out, q_and_gate, head_dim, q, d, sums, d_sums):
    for h in range(out.shape[0] // head_dim):
        for i in range(0, head_dim, 16):
            gate = load_f32x16(q_and_gate, (2 * h + 1) * head_dim + i)
            store(out, h * head_dim + i, mul(load_f32x16(out, h * head_dim + i), sigmoid(gate)))
    quantize_row(out, q, d, sums, d_sums)


@kernel(parallel=True)
def gate_output(out, q_and_gate, head_dim, q, d, sums, d_sums):
    """out [T, H*D], q_and_gate [T, H*2D] -> out * sigmoid(gate) as a Quantized; `out` is overwritten."""
    for t in prange(out.shape[0]):
        gate_output_row(out[t], q_and_gate[t], head_dim, q[t], d[t], sums[t], d_sums[t])


@kernel(fastmath=False)
def norm_and_rotate(x, start, out, at, weight, eps, cos, sin):
    """One head: rms_norm of x[start:], then RoPE, into out[at:].

    By the letter: LLVM makes two of such a loop, one with vectors, and takes by where the arrays lie which it
    runs. Free to reorder and to contract, the two would round differently.
    """
    size, half = weight.shape[0], cos.shape[0]
    scale = np.float32(1 / np.sqrt(sum_of_squares(x, start, size) / size + eps))
    for i in range(half):
        a, b = x[start + i] * scale * weight[i], x[start + half + i] * scale * weight[half + i]
        out[at + i] = a * cos[i] - b * sin[i]
        out[at + half + i] = b * cos[i] + a * sin[i]
    for i in range(2 * half, size):
        out[at + i] = x[start + i] * scale * weight[i]
