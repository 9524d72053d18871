"""Whole layers for one token, each in one call.

While a token is decoded all weights pass through the caches, so every step back to Python finds its data
gone: a call costs 5 µs there, and a layer made of single kernels has about 18. These functions are the same
kernels in the same order. A matrix comes with the address of its product, so that a file's types are compiled
once, and no others.
"""

from __future__ import annotations

import numpy as np

from qwen_ref.kernels import attention, deltanet, elementwise, quantize
from qwen_ref.kernels.compile import call, kernel

quantize_one, silu_times_one = quantize.quantize_one, elementwise.silu_times_one
gated_norm_one, gate_output = elementwise.gated_norm_one, elementwise.gate_output
prepare_one, recurrence = deltanet.prepare_one, deltanet.recurrence
append, attend = attention.append, attention.attend


@kernel()
def product(kernel, w, x, q, d, sums, sums4):
    """x [1, K], also quantized, w [N, row bytes] -> [1, N]. `kernel` is the address of a product in matvec,
    or minus that of one which takes floats."""
    y = np.empty((1, w.shape[0]), np.float32)
    if kernel < 0:
        call(-kernel, (w, x, y))
    else:
        call(kernel, (w, q, d, sums, sums4, y))
    return y


@kernel()
def new_quantized(n):
    """Room for one quantized row."""
    scales, sums = np.empty((1, n // 32), np.float32), np.empty((1, n // 16), np.int32)
    return np.empty((1, n), np.int8), scales, sums, np.empty((1, n // 4), np.int32)


@kernel()
def mlp(x, gate_product, gate_w, up_product, up_w, down_product, down_w):
    q, d, sums, sums4 = new_quantized(x.shape[1])
    quantize_one(x, q, d, sums, sums4)
    gate = product(gate_product, gate_w, x, q, d, sums, sums4)
    up = product(up_product, up_w, x, q, d, sums, sums4)
    q, d, sums, sums4 = new_quantized(gate.shape[1])
    silu_times_one(gate, up, q, d, sums, sums4)
    return product(down_product, down_w, gate, q, d, sums, sums4)


@kernel()
def deltanet_layer(
    x, qkv_product, qkv_w, z_product, z_w, b_product, b_w, a_product, a_w, out_product, out_w,
    conv_w, A, dt_bias, norm_w, eps, key_dim, k_heads, past, S,
):  # fmt: skip
    """`past` and `S` are the layer's state; both move on."""
    q, d, sums, sums4 = new_quantized(x.shape[1])
    quantize_one(x, q, d, sums, sums4)
    raw = product(qkv_product, qkv_w, x, q, d, sums, sums4)
    z = product(z_product, z_w, x, q, d, sums, sums4)
    b = product(b_product, b_w, x, q, d, sums, sums4)
    a = product(a_product, a_w, x, q, d, sums, sums4)
    qkv = np.empty_like(raw)
    prepare_one(raw, past, conv_w, key_dim, key_dim // k_heads, qkv)
    for i in range(past.shape[0] - 1):
        past[i] = past[i + 1]
    past[-1] = raw[0]
    o = np.empty_like(z)
    recurrence(qkv, a, b, A, dt_bias, k_heads, S, o)
    q, d, sums, sums4 = new_quantized(o.shape[1])
    gated_norm_one(o, z, norm_w, eps, q, d, sums, sums4)
    return product(out_product, out_w, o, q, d, sums, sums4)


@kernel()
def attention_layer(
    x, q_product, q_w, k_product, k_w, v_product, v_w, out_product, out_w,
    q_norm, k_norm, eps, cos, sin, keys, values, start,
):  # fmt: skip
    """`keys` and `values` have room for one more token at `start`."""
    q, d, sums, sums4 = new_quantized(x.shape[1])
    quantize_one(x, q, d, sums, sums4)
    q_and_gate = product(q_product, q_w, x, q, d, sums, sums4)
    k = product(k_product, k_w, x, q, d, sums, sums4)
    v = product(v_product, v_w, x, q, d, sums, sums4)
    query = np.empty((1, q_and_gate.shape[1] // 2), np.float32)
    append(q_and_gate, k, v, q_norm, k_norm, eps, cos, sin, keys, values, start, query)
    out = np.empty_like(query)
    attend(query, keys, values, start, out)
    q, d, sums, sums4 = new_quantized(out.shape[1])
    gate_output(out, q_and_gate, q_norm.shape[0], q, d, sums, sums4)
    return product(out_product, out_w, out, q, d, sums, sums4)
