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
)  # fmt: skip

BLOCK = 32
TOKENS = 4  # rows are padded with zeros to a multiple of this, which is what the matrix product takes at once


class Quantized(NamedTuple):
    """T rows of K activations. The sums serve weights that are stored with an offset."""

    q: np.ndarray  # int8 [T, K]
    d: np.ndarray  # float32 [T, K / 32]: scales
    sums: np.ndarray  # int32 [T, K / 16]: minus the sum of 16 q
    sums4: np.ndarray  # int32 [T, K / 4]: minus the sum of 4 q


def new_quantized(tokens: int, columns: int) -> Quantized:
    rows = -(-tokens // TOKENS) * TOKENS if tokens > 1 else 1
    new = np.empty if rows == tokens else np.zeros
    return Quantized(
        new((rows, columns), np.int8),
        new((rows, columns // BLOCK), np.float32),
        new((rows, columns // 16), np.int32),
        new((rows, columns // 4), np.int32),
    )


@kernel()
def quantize_row(x, q, d, sums, sums4):
    """x float32 [K] -> one row of a Quantized."""
    for b in range(d.shape[0]):
        at = b * BLOCK
        low, high = load_f32x16(x, at), load_f32x16(x, at + 16)
        largest = max_lanes(maximum(absolute(low), absolute(high)))
        d[b] = largest / np.float32(127)
        inverse = splat(np.float32(127) / largest if largest > 0 else np.float32(0))
        store(q, at, join(round_i8(mul(low, inverse)), round_i8(mul(high, inverse))))
    for i in range(sums4.shape[0]):
        sums4[i] = -(
            np.int32(q[4 * i]) + np.int32(q[4 * i + 1]) + np.int32(q[4 * i + 2]) + np.int32(q[4 * i + 3])
        )
    for i in range(sums.shape[0]):
        sums[i] = sums4[4 * i] + sums4[4 * i + 1] + sums4[4 * i + 2] + sums4[4 * i + 3]


@kernel()
def quantize_one(x, q, d, sums, sums4):
    """x float32 [1, K]."""
    quantize_row(x[0], q[0], d[0], sums[0], sums4[0])


@kernel(parallel=True)
def quantize_many(x, q, d, sums, sums4):
    """x float32 [T, K]."""
    for t in prange(x.shape[0]):
        quantize_row(x[t], q[t], d[t], sums[t], sums4[t])
