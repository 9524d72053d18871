"""Matrix products in float32: for matrices stored as floats, and for the two products inside full attention.

A tile holds 16 rows of a matrix, [K, 16]: one vector is a column of all of them. It meets 8 tokens at once
where there are 32 vector registers of 16 lanes, else 4, so that each lane of each register is one sum.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.simd import (
    FEATURES,
    add,
    fma,
    load_bf16x16,
    load_f16x16,
    load_f32x16,
    splat,
    store,
    to_f32,
)

ROWS = 16
TOKENS = 4  # the number of tokens must be a multiple of this
DEEP = 256  # columns that are summed up before they are added: this part of a tile stays in the nearest cache
WIDE = "avx512f" in FEATURES


@kernel()
def add_four(tile, x, t, start, stop, y, first):
    a0 = a1 = a2 = a3 = splat(np.float32(0))
    for k in range(start, stop):
        w = load_f32x16(tile, k * ROWS)
        a0, a1 = fma(w, splat(x[t, k]), a0), fma(w, splat(x[t + 1, k]), a1)
        a2, a3 = fma(w, splat(x[t + 2, k]), a2), fma(w, splat(x[t + 3, k]), a3)
    store(y[t], first, add(load_f32x16(y[t], first), a0))
    store(y[t + 1], first, add(load_f32x16(y[t + 1], first), a1))
    store(y[t + 2], first, add(load_f32x16(y[t + 2], first), a2))
    store(y[t + 3], first, add(load_f32x16(y[t + 3], first), a3))


@kernel()
def add_eight(tile, x, t, start, stop, y, first):
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = splat(np.float32(0))
    for k in range(start, stop):
        w = load_f32x16(tile, k * ROWS)
        a0, a1 = fma(w, splat(x[t, k]), a0), fma(w, splat(x[t + 1, k]), a1)
        a2, a3 = fma(w, splat(x[t + 2, k]), a2), fma(w, splat(x[t + 3, k]), a3)
        a4, a5 = fma(w, splat(x[t + 4, k]), a4), fma(w, splat(x[t + 5, k]), a5)
        a6, a7 = fma(w, splat(x[t + 6, k]), a6), fma(w, splat(x[t + 7, k]), a7)
    store(y[t], first, add(load_f32x16(y[t], first), a0))
    store(y[t + 1], first, add(load_f32x16(y[t + 1], first), a1))
    store(y[t + 2], first, add(load_f32x16(y[t + 2], first), a2))
    store(y[t + 3], first, add(load_f32x16(y[t + 3], first), a3))
    store(y[t + 4], first, add(load_f32x16(y[t + 4], first), a4))
    store(y[t + 5], first, add(load_f32x16(y[t + 5], first), a5))
    store(y[t + 6], first, add(load_f32x16(y[t + 6], first), a6))
    store(y[t + 7], first, add(load_f32x16(y[t + 7], first), a7))


@kernel()
def add_product(tile, x, y, first):
    """y[:, first : first + 16] += x @ tile; tile [K * 16], x [T, K], T a multiple of TOKENS."""
    tokens, columns = x.shape
    eights = tokens // 8 * 8 if WIDE else 0
    for start in range(0, columns, DEEP):
        stop = min(start + DEEP, columns)
        for t in range(0, eights, 8):
            add_eight(tile, x, t, start, stop, y, first)
        for t in range(eights, tokens, TOKENS):
            add_four(tile, x, t, start, stop, y, first)


@kernel()
def spread_column(values, tile, k, r):
    """16 columns of row r, from k on, go to their places in a tile."""
    for i in range(16):
        tile[(k + i) * ROWS + r] = values[i]


@kernel(parallel=True)
def matmul_f32(w, x, y):
    """w uint8 [N, row bytes], N a multiple of 16, x [T, K], T of TOKENS, K of 16: y [T, N] += x @ w.T."""
    for n in prange(w.shape[0] // ROWS):
        tile, part = np.empty(x.shape[1] * ROWS, np.float32), np.empty(16, np.float32)
        for r in range(ROWS):
            for k in range(0, x.shape[1], 16):
                store(part, 0, load_f32x16(w[n * ROWS + r], 4 * k))
                spread_column(part, tile, k, r)
        add_product(tile, x, y, n * ROWS)


@kernel(parallel=True)
def matmul_f16(w, x, y):
    for n in prange(w.shape[0] // ROWS):
        tile, part = np.empty(x.shape[1] * ROWS, np.float32), np.empty(16, np.float32)
        for r in range(ROWS):
            for k in range(0, x.shape[1], 16):
                store(part, 0, to_f32(load_f16x16(w[n * ROWS + r], 2 * k)))
                spread_column(part, tile, k, r)
        add_product(tile, x, y, n * ROWS)


@kernel(parallel=True)
def matmul_bf16(w, x, y):
    for n in prange(w.shape[0] // ROWS):
        tile, part = np.empty(x.shape[1] * ROWS, np.float32), np.empty(16, np.float32)
        for r in range(ROWS):
            for k in range(0, x.shape[1], 16):
                store(part, 0, load_bf16x16(w[n * ROWS + r], 2 * k))
                spread_column(part, tile, k, r)
        add_product(tile, x, y, n * ROWS)
