"""Whole layers for one token, each in one call.

While a token is decoded all weights pass through the caches, so every step back to Python finds its data
gone: a call costs 5 µs there, and a layer made of single kernels has about 18. These functions are the same
kernels in the same order. A matrix comes with the address of its product, and other large kernels as theirs,
so that each is compiled once, and of the types only a file's.
"""

from __future__ import annotations

import numpy as np

from qwen_ref.kernels import elementwise, matmul_float, quantize
from qwen_ref.kernels.compile import call, kernel

FLOAT_ROWS = matmul_float.ROWS
quantize_one, silu_times_one = quantize.quantize_one, elementwise.silu_times_one
gated_norm_one, gate_output = elementwise.gated_norm_one, elementwise.gate_output


@kernel()
def product(kernel, w, x, q, d, sums, d_sums):
    """x [1, K], also quantized, w [N, row bytes] -> [1, N]. `kernel` is the address of a product of matmul.py
    or minus that of one of matmul_float.py."""
    if kernel < 0:
        padded = (w.shape[0] + FLOAT_ROWS - 1) // FLOAT_ROWS * FLOAT_ROWS
        y, bias = np.empty((1, padded), np.float32), np.zeros(padded, np.float32)
        call(-kernel, (w, bias, x, y))
        return y if padded == w.shape[0] else y[:, : w.shape[0]].copy()
    y = np.empty((1, w.shape[0]), np.float32)
    call(kernel, (w, q, d, sums, d_sums, y))
    return y


@kernel()
def new_quantized(n):
    """Room for one quantized row."""
    scales, d_sums = np.empty((1, n // 32), np.float32), np.empty((1, n // 32), np.float32)
    return np.empty((1, n), np.int8), scales, np.empty((1, n // 16), np.int32), d_sums


@kernel()
def mlp(x, gate_product, gate_w, up_product, up_w, down_product, down_w):
    q, d, sums, d_sums = new_quantized(x.shape[1])
    quantize_one(x, q, d, sums, d_sums)
    gate = product(gate_product, gate_w, x, q, d, sums, d_sums)
    up = product(up_product, up_w, x, q, d, sums, d_sums)
    q, d, sums, d_sums = new_quantized(gate.shape[1])
    silu_times_one(gate, up, q, d, sums, d_sums)
    return product(down_product, down_w, gate, q, d, sums, d_sums)


@kernel()
def deltanet_layer(
    x, qkv_product, qkv_w, z_product, z_w, b_product, b_w, a_product, a_w, out_product, out_w,
    prepare, recurrence, conv_w, A, dt_bias, norm_w, eps, key_dim, k_heads, past, S,
):  # fmt: skip
    """`past` and `S` are the layer's state; both move on. `prepare` and `recurrence` are addresses of
    deltanet.py's kernels."""
    q, d, sums, d_sums = new_quantized(x.shape[1])
    quantize_one(x, q, d, sums, d_sums)
    raw = product(qkv_product, qkv_w, x, q, d, sums, d_sums)
    z = product(z_product, z_w, x, q, d, sums, d_sums)
    b = product(b_product, b_w, x, q, d, sums, d_sums)
    a = product(a_product, a_w, x, q, d, sums, d_sums)
    qkv = np.empty_like(raw)
    call(prepare, (raw, past, conv_w, key_dim, key_dim // k_heads, qkv))
    for i in range(past.shape[0] - 1):
        past[i] = past[i + 1]
    past[-1] = raw[0]
    o = np.empty_like(z)
    call(recurrence, (qkv, a, b, A, dt_bias, k_heads, S, x.shape[0], o))
    q, d, sums, d_sums = new_quantized(o.shape[1])
    gated_norm_one(o, z, norm_w, eps, q, d, sums, d_sums)
    return product(out_product, out_w, o, q, d, sums, d_sums)


@kernel()
def attention_layer(
    x, q_product, q_w, k_product, k_w, v_product, v_w, out_product, out_w,
    append, attend, q_norm, k_norm, eps, cos, sin, keys, values, start,
):  # fmt: skip
    """`keys` and `values` have room for one more token at `start`. `append` and `attend` are addresses of
    attention.py's kernels."""
    q, d, sums, d_sums = new_quantized(x.shape[1])
    quantize_one(x, q, d, sums, d_sums)
    q_and_gate = product(q_product, q_w, x, q, d, sums, d_sums)
    k = product(k_product, k_w, x, q, d, sums, d_sums)
    v = product(v_product, v_w, x, q, d, sums, d_sums)
    query = np.empty((1, q_and_gate.shape[1] // 2), np.float32)
    call(append, (q_and_gate, k, v, q_norm, k_norm, eps, cos, sin, keys, values, start, query))
    out = np.empty_like(query)
    call(attend, (query, keys, values, start, out))
    q, d, sums, d_sums = new_quantized(out.shape[1])
    gate_output(out, q_and_gate, q_norm.shape[0], q, d, sums, d_sums)
    return product(out_product, out_w, out, q, d, sums, d_sums)
