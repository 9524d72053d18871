"""Activations as 8-bit integers, one scale per 32: what the integer dot products read.

    x[t, i] = d[t, i // 32] * q[t, i] + rounding

llama.cpp does the same for most types (Q8_0; for K-quants one scale per 256).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.simd import (
    absolute,
    join,
    load_f32x16,
    max_lanes,
    maximum,
    mul,
    round_i8,
    splat,
    store,
    sum_lanes,
    to_f32,
)  # fmt: skip

BLOCK = 32


class Quantized(NamedTuple):
    """T rows of K activations. The sums serve weights that are stored with an offset or have a minimum."""

    q: np.ndarray  # int8 [T, K]
    d: np.ndarray  # float32 [T, K / 32]: scales
    sums: np.ndarray  # int32 [T, K / 32 * 2]: minus the sum of the first 16 of each 32 q, and of all 32
    d_sums: np.ndarray  # float32 [T, K / 32]: d times minus the sum of 32 q


def new_quantized(tokens: int, columns: int) -> Quantized:
    return Quantized(
        np.empty((tokens, columns), np.int8),
        np.empty((tokens, columns // BLOCK), np.float32),
        np.empty((tokens, columns // 16), np.int32),
        np.empty((tokens, columns // BLOCK), np.float32),
    )


@kernel()
def quantize_row(x, q, d, sums, d_sums):
    """x float32 [K] -> one row of a Quantized."""
    for b in range(d.shape[0]):
        at = b * BLOCK
        low, high = load_f32x16(x, at), load_f32x16(x, at + 16)
        largest = max_lanes(maximum(absolute(low), absolute(high)))
        d[b] = largest / np.float32(127)
        inverse = splat(np.float32(127) / largest if largest > 0 else np.float32(0))
        first, second = round_i8(mul(low, inverse)), round_i8(mul(high, inverse))
        store(q, at, join(first, second))
        sum_first = -sum_lanes(to_f32(first))  # floats have no rounding here, and are added up fast
        sum_both = sum_first - sum_lanes(to_f32(second))
        sums[2 * b], sums[2 * b + 1] = np.int32(sum_first), np.int32(sum_both)
        d_sums[b] = d[b] * sum_both


@kernel()
def quantize_one(x, q, d, sums, d_sums):
    """x float32 [1, K]."""
    quantize_row(x[0], q[0], d[0], sums[0], d_sums[0])


@kernel(parallel=True)
def quantize_many(x, q, d, sums, d_sums):
    """x float32 [T, K]."""
    for t in prange(x.shape[0]):
        quantize_row(x[t], q[t], d[t], sums[t], d_sums[t])
