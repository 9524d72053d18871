"""Matrix products in float32: for matrices stored as floats, and for the two products inside full attention.

A tile holds ROWS rows of a matrix, [K, ROWS]: one load is a column of all of them. A pack holds TOKENS rows
of the other factor, [K, TOKENS]. Their product, TOKENS x ROWS sums, stays in registers: 8 x 32 where there
are 32 registers of 16 lanes, else 4 x 16.
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

WIDE = "avx512f" in FEATURES
ROWS, TOKENS = (32, 8) if WIDE else (16, 4)
DEEP = 384  # columns that are summed up before they are added: this part of a tile stays in the nearest cache


@kernel()
def add_to(y, at, v):
    store(y, at, add(load_f32x16(y, at), v))


@kernel()
def add_block_wide(tile, pack, start, stop, y, t, first):
    """y[t : t + 8, first : first + 32] += the product of columns start to stop."""
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = splat(np.float32(0))
    b0 = b1 = b2 = b3 = b4 = b5 = b6 = b7 = splat(np.float32(0))
    for k in range(start, stop):
        w, v = load_f32x16(tile, 32 * k), load_f32x16(tile, 32 * k + 16)
        x = splat(pack[8 * k])
        a0, b0 = fma(w, x, a0), fma(v, x, b0)
        x = splat(pack[8 * k + 1])
        a1, b1 = fma(w, x, a1), fma(v, x, b1)
        x = splat(pack[8 * k + 2])
        a2, b2 = fma(w, x, a2), fma(v, x, b2)
        x = splat(pack[8 * k + 3])
        a3, b3 = fma(w, x, a3), fma(v, x, b3)
        x = splat(pack[8 * k + 4])
        a4, b4 = fma(w, x, a4), fma(v, x, b4)
        x = splat(pack[8 * k + 5])
        a5, b5 = fma(w, x, a5), fma(v, x, b5)
        x = splat(pack[8 * k + 6])
        a6, b6 = fma(w, x, a6), fma(v, x, b6)
        x = splat(pack[8 * k + 7])
        a7, b7 = fma(w, x, a7), fma(v, x, b7)
    add_to(y[t], first, a0), add_to(y[t], first + 16, b0)
    add_to(y[t + 1], first, a1), add_to(y[t + 1], first + 16, b1)
    add_to(y[t + 2], first, a2), add_to(y[t + 2], first + 16, b2)
    add_to(y[t + 3], first, a3), add_to(y[t + 3], first + 16, b3)
    add_to(y[t + 4], first, a4), add_to(y[t + 4], first + 16, b4)
    add_to(y[t + 5], first, a5), add_to(y[t + 5], first + 16, b5)
    add_to(y[t + 6], first, a6), add_to(y[t + 6], first + 16, b6)
    add_to(y[t + 7], first, a7), add_to(y[t + 7], first + 16, b7)


@kernel()
def add_block_narrow(tile, pack, start, stop, y, t, first):
    """y[t : t + 4, first : first + 16] += the product of columns start to stop."""
    a0 = a1 = a2 = a3 = splat(np.float32(0))
    for k in range(start, stop):
        w = load_f32x16(tile, 16 * k)
        a0, a1 = fma(w, splat(pack[4 * k]), a0), fma(w, splat(pack[4 * k + 1]), a1)
        a2, a3 = fma(w, splat(pack[4 * k + 2]), a2), fma(w, splat(pack[4 * k + 3]), a3)
    add_to(y[t], first, a0), add_to(y[t + 1], first, a1)
    add_to(y[t + 2], first, a2), add_to(y[t + 3], first, a3)


add_block = add_block_wide if WIDE else add_block_narrow


@kernel()
def add_product(tile, packs, y, first):
    """y[:, first:][:, :ROWS] += packs @ tile: tile [K * ROWS], packs [P, K * TOKENS], y [P * TOKENS, N]."""
    columns = packs.shape[1] // TOKENS
    for start in range(0, columns, DEEP):
        for p in range(packs.shape[0]):
            add_block(tile, packs[p], start, min(start + DEEP, columns), y, p * TOKENS, first)


@kernel(parallel=True)
def pack_rows(x, packs):
    """x [T, K] -> packs [T', K * TOKENS], T' = T / TOKENS rounded up; what is missing is zero."""
    for p in prange(packs.shape[0]):
        for i in range(TOKENS):
            t = p * TOKENS + i
            for k in range(x.shape[1]):
                packs[p, k * TOKENS + i] = x[t, k] if t < x.shape[0] else np.float32(0)


@kernel()
def fill(bias, y, first):
    """y[:, first : first + ROWS] = bias of these rows."""
    for t in range(y.shape[0]):
        for i in range(first, first + ROWS, 16):
            store(y[t], i, load_f32x16(bias, i))


@kernel()
def put_column(values, tile, k, r):
    """16 columns of row r, from k on, go to their places in a tile."""
    for i in range(16):
        tile[(k + i) * ROWS + r] = values[i]


@kernel(parallel=True)
def matmul_f32(w, bias, packs, y):
    """w uint8 [N, row bytes], bias [N'], packs of x [T, K], K a multiple of 16 -> y [T', N'] = x w^T + bias.

    N' and T' are N and T rounded up to ROWS and TOKENS.
    """
    columns = packs.shape[1] // TOKENS
    for n in prange(y.shape[1] // ROWS):
        tile, part = np.zeros(columns * ROWS, np.float32), np.empty(16, np.float32)
        for k in range(0, columns, 16):
            for r in range(min(ROWS, w.shape[0] - n * ROWS)):
                store(part, 0, load_f32x16(w[n * ROWS + r], 4 * k))
                put_column(part, tile, k, r)
        fill(bias, y, n * ROWS)
        add_product(tile, packs, y, n * ROWS)


@kernel(parallel=True)
def matmul_f16(w, bias, packs, y):
    columns = packs.shape[1] // TOKENS
    for n in prange(y.shape[1] // ROWS):
        tile, part = np.zeros(columns * ROWS, np.float32), np.empty(16, np.float32)
        for k in range(0, columns, 16):
            for r in range(min(ROWS, w.shape[0] - n * ROWS)):
                store(part, 0, to_f32(load_f16x16(w[n * ROWS + r], 2 * k)))
                put_column(part, tile, k, r)
        fill(bias, y, n * ROWS)
        add_product(tile, packs, y, n * ROWS)


@kernel(parallel=True)
def matmul_bf16(w, bias, packs, y):
    columns = packs.shape[1] // TOKENS
    for n in prange(y.shape[1] // ROWS):
        tile, part = np.zeros(columns * ROWS, np.float32), np.empty(16, np.float32)
        for k in range(0, columns, 16):
            for r in range(min(ROWS, w.shape[0] - n * ROWS)):
                store(part, 0, load_bf16x16(w[n * ROWS + r], 2 * k))
                put_column(part, tile, k, r)
        fill(bias, y, n * ROWS)
        add_product(tile, packs, y, n * ROWS)
