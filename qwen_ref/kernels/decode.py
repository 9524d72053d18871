"""Whole layers for one token, each in one call.

While a token is decoded all weights pass through the caches, so every step back to Python finds its data
gone: a call costs 5 µs there, and a layer made of single kernels has about 18. These functions are the same
kernels in the same order. A matrix comes with the number of its type in TYPES.
"""

from __future__ import annotations

import numpy as np

from qwen_ref.kernels import attention, deltanet, elementwise, matvec, quantize
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

matvec_f32, matvec_f16, matvec_bf16 = matvec.matvec_f32, matvec.matvec_f16, matvec.matvec_bf16
matvec_q8_0, matvec_q4_0, matvec_iq4_nl = matvec.matvec_q8_0, matvec.matvec_q4_0, matvec.matvec_iq4_nl
matvec_q4_k, matvec_q5_k = matvec.matvec_q4_k, matvec.matvec_q5_k
matvec_q6_k, matvec_iq4_xs = matvec.matvec_q6_k, matvec.matvec_iq4_xs
quantize_one, silu_times_one = quantize.quantize_one, elementwise.silu_times_one
gated_norm_one, gate_output = elementwise.gated_norm_one, elementwise.gate_output
prepare_one, recurrence = deltanet.prepare_one, deltanet.recurrence
append, attend = attention.append, attention.attend


@kernel()
def product(kind, w, x, q, d, sums, sums4):
    """x [1, K], also quantized, w of type `kind` [N, row bytes] -> [1, N]."""
    y = np.empty((1, w.shape[0]), np.float32)
    if kind == 0:
        matvec_f32(w, x, y)
    elif kind == 1:
        matvec_f16(w, x, y)
    elif kind == 2:
        matvec_bf16(w, x, y)
    elif kind == 3:
        matvec_q8_0(w, q, d, sums, sums4, y)
    elif kind == 4:
        matvec_q4_0(w, q, d, sums, sums4, y)
    elif kind == 5:
        matvec_iq4_nl(w, q, d, sums, sums4, y)
    elif kind == 6:
        matvec_q4_k(w, q, d, sums, sums4, y)
    elif kind == 7:
        matvec_q5_k(w, q, d, sums, sums4, y)
    elif kind == 8:
        matvec_q6_k(w, q, d, sums, sums4, y)
    else:
        matvec_iq4_xs(w, q, d, sums, sums4, y)
    return y


@kernel()
def new_quantized(n):
    """Room for one quantized row."""
    scales, sums = np.empty((1, n // 32), np.float32), np.empty((1, n // 16), np.int32)
    return np.empty((1, n), np.int8), scales, sums, np.empty((1, n // 4), np.int32)


@kernel()
def mlp(x, gate_kind, gate_w, up_kind, up_w, down_kind, down_w):
    q, d, sums, sums4 = new_quantized(x.shape[1])
    quantize_one(x, q, d, sums, sums4)
    gate = product(gate_kind, gate_w, x, q, d, sums, sums4)
    up = product(up_kind, up_w, x, q, d, sums, sums4)
    q, d, sums, sums4 = new_quantized(gate.shape[1])
    silu_times_one(gate, up, q, d, sums, sums4)
    return product(down_kind, down_w, gate, q, d, sums, sums4)


@kernel()
def deltanet_layer(
    x, qkv_kind, qkv_w, z_kind, z_w, b_kind, b_w, a_kind, a_w, out_kind, out_w,
    conv_w, A, dt_bias, norm_w, eps, key_dim, k_heads, past, S,
):  # fmt: skip
    """`past` and `S` are the layer's state; both move on."""
    q, d, sums, sums4 = new_quantized(x.shape[1])
    quantize_one(x, q, d, sums, sums4)
    raw = product(qkv_kind, qkv_w, x, q, d, sums, sums4)
    z = product(z_kind, z_w, x, q, d, sums, sums4)
    b = product(b_kind, b_w, x, q, d, sums, sums4)
    a = product(a_kind, a_w, x, q, d, sums, sums4)
    qkv = np.empty_like(raw)
    prepare_one(raw, past, conv_w, key_dim, key_dim // k_heads, qkv)
    for i in range(past.shape[0] - 1):
        past[i] = past[i + 1]
    past[-1] = raw[0]
    o = np.empty_like(z)
    recurrence(qkv, a, b, A, dt_bias, k_heads, S, o)
    q, d, sums, sums4 = new_quantized(o.shape[1])
    gated_norm_one(o, z, norm_w, eps, q, d, sums, sums4)
    return product(out_kind, out_w, o, q, d, sums, sums4)


@kernel()
def attention_layer(
    x, q_kind, q_w, k_kind, k_w, v_kind, v_w, out_kind, out_w,
    q_norm, k_norm, eps, cos, sin, keys, values, start,
):  # fmt: skip
    """`keys` and `values` have room for one more token at `start`."""
    q, d, sums, sums4 = new_quantized(x.shape[1])
    quantize_one(x, q, d, sums, sums4)
    q_and_gate = product(q_kind, q_w, x, q, d, sums, sums4)
    k = product(k_kind, k_w, x, q, d, sums, sums4)
    v = product(v_kind, v_w, x, q, d, sums, sums4)
    query = np.empty((1, q_and_gate.shape[1] // 2), np.float32)
    append(q_and_gate, k, v, q_norm, k_norm, eps, cos, sin, keys, values, start, query)
    out = np.empty_like(query)
    attend(query, keys, values, start, out)
    q, d, sums, sums4 = new_quantized(out.shape[1])
    gate_output(out, q_and_gate, q_norm.shape[0], q, d, sums, sums4)
    return product(out_kind, out_w, out, q, d, sums, sums4)
