"""Gated DeltaNet between its matrix products: convolution, normalization, the recurrence.

The recurrence goes token by token, for prefill too: columns of a head's state do not depend on each other, so
a slice of 32 columns [K, 32] stays in the first-level cache while all tokens pass over it, and that costs
about as many operations as the chunked form without its triangular systems. It reads the state twice a token:

    held = exp(g) S^T k;    u = beta (v - held);    S = exp(g) S + k u^T;    o = S^T q
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.elementwise import sigmoid, sum_of_squares
from qwen_ref.kernels.simd import fma, load_f32x16, mul, splat, store, sub

SLICE = 32  # columns of the state that are kept together: the state is stored [H, V / 32, K, 32]


@kernel()
def conv_row(x, past, weight, t, out):
    """Row t of the causal convolution and SiLU, out [C]; inputs before x are in past [k-1, C]."""
    width = weight.shape[0]
    for c in range(0, out.shape[0], 16):
        acc = splat(np.float32(0))
        for j in range(width):
            source = t - (width - 1) + j
            if source >= 0:
                v = load_f32x16(x[source], c)
            else:
                v = load_f32x16(past[width - 1 + source], c)
            acc = fma(v, load_f32x16(weight[j], c), acc)
        store(out, c, mul(acc, sigmoid(acc)))


@kernel()
def normalize_heads(row, start, stop, size, scale):
    """Each head of `size` in row[start:stop] to length `scale` (eps 1e-6 inside the root)."""
    for at in range(start, stop, size):
        factor = splat(np.float32(scale / np.sqrt(sum_of_squares(row, at, size) + np.float32(1e-6))))
        for i in range(at, at + size, 16):
            store(row, i, mul(load_f32x16(row, i), factor))


@kernel()
def prepare_row(x, past, weight, t, key_dim, size, out):
    conv_row(x, past, weight, t, out)
    normalize_heads(out, 0, key_dim, size, np.float32(1 / math.sqrt(size)))
    normalize_heads(out, key_dim, 2 * key_dim, size, np.float32(1))


@kernel(parallel=True)
def prepare_many(x, past, weight, key_dim, size, out):
    """x [T, C], past [k-1, C], weight [k, C] -> out [T, C]: convolved, SiLU, q and k normalized."""
    for t in prange(x.shape[0]):
        prepare_row(x, past, weight, t, key_dim, size, out[t])


@kernel()
def sigmoid_of(x):
    return np.float32(1) / (np.float32(1) + math.exp(-x))


@kernel()
def softplus_of(x):
    return x if x > 20 else math.log1p(math.exp(x))


@kernel()
def slice_step(S, k_row, k_at, q_at, v_at, K, decay, beta, o_row, o_at):
    """One token over one slice S [K, 32]."""
    held0 = held1 = splat(np.float32(0))
    for i in range(K):
        k = splat(k_row[k_at + i])
        held0 = fma(load_f32x16(S[i], 0), k, held0)
        held1 = fma(load_f32x16(S[i], 16), k, held1)
    e, b = splat(decay), splat(beta)
    u0 = mul(b, sub(load_f32x16(k_row, v_at), mul(e, held0)))
    u1 = mul(b, sub(load_f32x16(k_row, v_at + 16), mul(e, held1)))
    o0 = o1 = splat(np.float32(0))
    for i in range(K):
        k, q = splat(k_row[k_at + i]), splat(k_row[q_at + i])
        s0 = fma(k, u0, mul(e, load_f32x16(S[i], 0)))
        s1 = fma(k, u1, mul(e, load_f32x16(S[i], 16)))
        store(S[i], 0, s0)
        store(S[i], 16, s1)
        o0, o1 = fma(s0, q, o0), fma(s1, q, o1)
    store(o_row, o_at, o0)
    store(o_row, o_at + 16, o1)


@kernel(parallel=True)
def recurrence(qkv, a, b, A, dt_bias, k_heads, S, sure, o):
    """qkv [T, C] as prepared, a, b [T, H], A, dt_bias [H], S [H, V/32, K, 32] -> o [T, H*V].

    S moves on by the first `sure` tokens; the others go on in a copy of it, a slice at a time.
    V head h reads K head h % k_heads, as a GGUF file orders them.
    """
    heads, slices, K = S.shape[0], S.shape[1], S.shape[2]
    V = slices * SLICE
    for task in prange(heads * slices):
        h, s = task // slices, task % slices
        q_at = h % k_heads * K
        k_at = (k_heads + h % k_heads) * K
        v_at = 2 * k_heads * K + h * V + s * SLICE
        state = S[h, s]
        for t in range(qkv.shape[0]):
            if t == sure:
                state = S[h, s].copy()
            decay = np.float32(math.exp(A[h] * softplus_of(a[t, h] + dt_bias[h])))
            beta = np.float32(sigmoid_of(b[t, h]))
            slice_step(state, qkv[t], k_at, q_at, v_at, K, decay, beta, o[t], h * V + s * SLICE)
