"""Whole layers for one token, each in one call.

While a token is decoded all weights pass through the caches, so every step back to Python finds its data
gone: a call costs 5 µs there, and a layer made of single kernels has about 18. These functions are the same
kernels in the same order. A matrix comes with the number of its type in TYPES.
"""

from __future__ import annotations

import numpy as np

from qwen_ref.kernels import attention, deltanet, elementwise, matmul, matmul_float, quantize
from qwen_ref.kernels.compile import kernel

TYPES = {
    "F32": 0,
    "F16": 1,
    "BF16": 2,
    "Q8_0": 3,
    "Q4_0": 4,
    "IQ4_NL": 5,
    "Q4_K": 6,
    "Q5_K": 7,
    "Q6_K": 8,
    "IQ4_XS": 9,
}

matmul_f32, matmul_f16 = matmul_float.matmul_f32, matmul_float.matmul_f16
matmul_bf16, FLOAT_ROWS = matmul_float.matmul_bf16, matmul_float.ROWS
matmul_q8_0, matmul_q4_0, matmul_iq4_nl = matmul.matmul_q8_0, matmul.matmul_q4_0, matmul.matmul_iq4_nl
matmul_q4_k, matmul_q5_k = matmul.matmul_q4_k, matmul.matmul_q5_k
matmul_q6_k, matmul_iq4_xs = matmul.matmul_q6_k, matmul.matmul_iq4_xs
quantize_one, silu_times_one = quantize.quantize_one, elementwise.silu_times_one
gated_norm_one, gate_output = elementwise.gated_norm_one, elementwise.gate_output
prepare_one, recurrence = deltanet.prepare_one, deltanet.recurrence
append, attend_one = attention.append, attention.attend_one


@kernel()
def float_product(kind, w, x):
    """x [1, K], w [N, row bytes] -> [1, N]."""
    padded = (w.shape[0] + FLOAT_ROWS - 1) // FLOAT_ROWS * FLOAT_ROWS
    y, bias = np.empty((1, padded), np.float32), np.zeros(padded, np.float32)
    if kind == 0:
        matmul_f32(w, bias, x, y)
    elif kind == 1:
        matmul_f16(w, bias, x, y)
    else:
        matmul_bf16(w, bias, x, y)
    return y if padded == w.shape[0] else y[:, : w.shape[0]].copy()


@kernel()
def product(kind, w, x, q, d, sums, d_sums):
    """x [1, K], also quantized, w of type `kind` [N, row bytes] -> [1, N]."""
    if kind < 3:
        return float_product(kind, w, x)
    y = np.empty((1, w.shape[0]), np.float32)
    if kind == 3:
        matmul_q8_0(w, q, d, sums, d_sums, y)
    elif kind == 4:
        matmul_q4_0(w, q, d, sums, d_sums, y)
    elif kind == 5:
        matmul_iq4_nl(w, q, d, sums, d_sums, y)
    elif kind == 6:
        matmul_q4_k(w, q, d, sums, d_sums, y)
    elif kind == 7:
        matmul_q5_k(w, q, d, sums, d_sums, y)
    elif kind == 8:
        matmul_q6_k(w, q, d, sums, d_sums, y)
    else:
        matmul_iq4_xs(w, q, d, sums, d_sums, y)
    return y


@kernel()
def new_quantized(n):
    """Room for one quantized row."""
    scales, d_sums = np.empty((1, n // 32), np.float32), np.empty((1, n // 32), np.float32)
    return np.empty((1, n), np.int8), scales, np.empty((1, n // 16), np.int32), d_sums


@kernel()
def mlp(x, gate_kind, gate_w, up_kind, up_w, down_kind, down_w):
    q, d, sums, d_sums = new_quantized(x.shape[1])
    quantize_one(x, q, d, sums, d_sums)
    gate = product(gate_kind, gate_w, x, q, d, sums, d_sums)
    up = product(up_kind, up_w, x, q, d, sums, d_sums)
    q, d, sums, d_sums = new_quantized(gate.shape[1])
    silu_times_one(gate, up, q, d, sums, d_sums)
    return product(down_kind, down_w, gate, q, d, sums, d_sums)


@kernel()
def deltanet_layer(
    x, qkv_kind, qkv_w, z_kind, z_w, b_kind, b_w, a_kind, a_w, out_kind, out_w,
    conv_w, A, dt_bias, norm_w, eps, key_dim, k_heads, past, S,
):  # fmt: skip
    """`past` and `S` are the layer's state; both move on."""
    q, d, sums, d_sums = new_quantized(x.shape[1])
    quantize_one(x, q, d, sums, d_sums)
    raw = product(qkv_kind, qkv_w, x, q, d, sums, d_sums)
    z = product(z_kind, z_w, x, q, d, sums, d_sums)
    b = product(b_kind, b_w, x, q, d, sums, d_sums)
    a = product(a_kind, a_w, x, q, d, sums, d_sums)
    qkv = np.empty_like(raw)
    prepare_one(raw, past, conv_w, key_dim, key_dim // k_heads, qkv)
    for i in range(past.shape[0] - 1):
        past[i] = past[i + 1]
    past[-1] = raw[0]
    o = np.empty_like(z)
    recurrence(qkv, a, b, A, dt_bias, k_heads, S, o)
    q, d, sums, d_sums = new_quantized(o.shape[1])
    gated_norm_one(o, z, norm_w, eps, q, d, sums, d_sums)
    return product(out_kind, out_w, o, q, d, sums, d_sums)


@kernel()
def attention_layer(
    x, q_kind, q_w, k_kind, k_w, v_kind, v_w, out_kind, out_w,
    q_norm, k_norm, eps, cos, sin, keys, values, start,
):  # fmt: skip
    """`keys` and `values` have room for one more token at `start`."""
    q, d, sums, d_sums = new_quantized(x.shape[1])
    quantize_one(x, q, d, sums, d_sums)
    q_and_gate = product(q_kind, q_w, x, q, d, sums, d_sums)
    k = product(k_kind, k_w, x, q, d, sums, d_sums)
    v = product(v_kind, v_w, x, q, d, sums, d_sums)
    query = np.empty((1, q_and_gate.shape[1] // 2), np.float32)
    append(q_and_gate, k, v, q_norm, k_norm, eps, cos, sin, keys, values, start, query)
    out = np.empty_like(query)
    attend_one(query, keys, values, start, out)
    q, d, sums, d_sums = new_quantized(out.shape[1])
    gate_output(out, q_and_gate, q_norm.shape[0], q, d, sums, d_sums)
    return product(out_kind, out_w, out, q, d, sums, d_sums)
