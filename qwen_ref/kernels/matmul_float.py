"""Matrix products in float32: for matrices stored as floats, and for the two products inside full attention.

A tile holds ROWS rows of a matrix, [K, ROWS]: one load is a column of all of them. A pack holds TOKENS rows
of the other factor, [K, TOKENS]. Their product, TOKENS x ROWS sums, stays in registers: 8 x 32 where there
are 32 registers of 16 lanes, else 4 x 16. One token alone meets the columns without a tile.

For a row and a token, products are summed up in order of columns, DEEP of them at a time. So the same bits
come out whatever other tokens there are.
"""

from __future__ import annotations

import numpy as np
from numba import float32, prange

from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.simd import (
    FEATURES,
    add,
    add_columns,
    as_floats,
    fma,
    high_bf16,
    high_f16,
    in_turn,
    load_f32x16,
    local,
    low_bf16,
    low_f16,
    prefetch,
    splat,
    store,
    store_apart,
    turned8,
)  # fmt: skip

WIDE = "avx512f" in FEATURES
ROWS, TOKENS = (32, 8) if WIDE else (16, 4)
DEEP = 384  # columns that are summed up before they are added: this part of a tile stays in the nearest cache
PART = DEEP * ROWS
SMALL = 1 << 17  # bytes


@kernel()
def add_to(y, at, v):
    store(y, at, add(load_f32x16(y, at), v))


@kernel()
def add_block_wide(tile, pack, start, stop, y, t, first):
    """y[t : t + 8, first : first + 32] += the product of columns start to stop, the tile's first."""
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = splat(np.float32(0))
    b0 = b1 = b2 = b3 = b4 = b5 = b6 = b7 = splat(np.float32(0))
    for k in range(start, stop):
        at = 32 * (k - start)
        w, v = load_f32x16(tile, at), load_f32x16(tile, at + 16)
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
        w = load_f32x16(tile, 16 * (k - start))
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
        part = tile[start * ROWS :]
        for p in range(packs.shape[0]):
            add_block(part, packs[p], start, min(start + DEEP, columns), y, p * TOKENS, first)


@kernel(parallel=True)
def pack_rows(x, packs):
    """x [T, K] -> packs [T', K * TOKENS], T' = T / TOKENS rounded up; what is missing is zero."""
    for p in prange(packs.shape[0]):
        for i in range(TOKENS):
            t = p * TOKENS + i
            for k in range(x.shape[1]):
                packs[p, k * TOKENS + i] = x[t, k] if t < x.shape[0] else np.float32(0)


@kernel()
def packs_of(x):
    """None for one token."""
    count = 0 if x.shape[0] == 1 else (x.shape[0] + TOKENS - 1) // TOKENS
    packs = np.empty((count, x.shape[1] * TOKENS), np.float32)
    pack_rows(x, packs)
    return packs


@kernel()
def fill(bias, y, first):
    """y[:, first : first + ROWS] = bias of these rows."""
    for t in range(y.shape[0]):
        for i in range(first, first + ROWS, 16):
            store(y[t], i, load_f32x16(bias, i))


@kernel()
def filled_up(w, first):
    """The last rows, and rows of zeros."""
    whole = np.zeros((ROWS, w.shape[1]), np.uint8)
    for r in range(first, w.shape[0]):
        for i in range(w.shape[1]):
            whole[r - first, i] = w[r, i]
    return whole


@kernel(forceinline=True)
def ask_ahead(w, rows, first, at, size):
    """While bytes at to at + size of each row of a tile of `rows` are read, as much of the next tile, or of
    the next four small ones, is asked for.

    Reading a tile goes through its rows in turn, which the hardware does not foresee. It does foresee places
    that move on evenly, but only to the end of a page: in the next it begins anew, slowly. So there are four
    such places at once, far enough apart not to share a page.
    """
    together = 4 * rows if 4 * rows * w.shape[1] <= SMALL else rows
    inside = first & (together - 1)  # of so many tiles
    start = (first - inside + together + inside // 4) * w.shape[1] + at * rows // 4
    part = together // 4 * w.shape[1]
    for i in range(start, start + size * rows // 4, 64):
        prefetch(w, i)
        prefetch(w, i + part)
        prefetch(w, i + 2 * part)
        prefetch(w, i + 3 * part)


# ---- one type each. columns_…: 32 bytes of each of 16 rows, as columns


@kernel(forceinline=True)
def columns_f32(w, first, at):
    return as_floats(turned8(w, first, at))


@kernel(forceinline=True)
def columns_f16(w, first, at):
    v = turned8(w, first, at)
    return in_turn(low_f16(v), high_f16(v))


@kernel(forceinline=True)
def columns_bf16(w, first, at):
    v = turned8(w, first, at)
    return in_turn(low_bf16(v), high_bf16(v))


@kernel(parallel=True)
def matmul_f32(w, bias, x, y):
    """w uint8 [N, row bytes], bias [N'], x [T, K], K a multiple of 16 -> y [T', N'] = x w^T + bias.

    N' is N rounded up to ROWS, T' is T rounded up to TOKENS, but 1 for one token.
    """
    packs = packs_of(x)
    for n in prange(y.shape[1] // ROWS):
        fill(bias, y, n * ROWS)
        whole = (n + 1) * ROWS <= w.shape[0]
        rows, first = (w, n * ROWS) if whole else (filled_up(w, n * ROWS), 0)
        tile = local(PART, float32)
        for start in range(0, x.shape[1], DEEP):
            stop = min(start + DEEP, x.shape[1])
            if x.shape[0] == 1:
                low = high = splat(np.float32(0))
                for k in range(start, stop, 8):
                    ask_ahead(w, ROWS, n * ROWS, 4 * k, 32)
                    low = add_columns(columns_f32(rows, first, 4 * k), x[0], k, low)
                    if WIDE:
                        high = add_columns(columns_f32(rows, first + 16, 4 * k), x[0], k, high)
                add_to(y[0], n * ROWS, low)
                if WIDE:
                    add_to(y[0], n * ROWS + 16, high)
            else:
                for k in range(start, stop, 8):
                    ask_ahead(w, ROWS, n * ROWS, 4 * k, 32)
                    store_apart(tile, (k - start) * ROWS, ROWS, columns_f32(rows, first, 4 * k))
                    if WIDE:
                        store_apart(tile, (k - start) * ROWS + 16, ROWS, columns_f32(rows, first + 16, 4 * k))
                for p in range(packs.shape[0]):
                    add_block(tile, packs[p], start, stop, y, p * TOKENS, n * ROWS)


@kernel(parallel=True)
def matmul_f16(w, bias, x, y):
    packs = packs_of(x)
    for n in prange(y.shape[1] // ROWS):
        fill(bias, y, n * ROWS)
        whole = (n + 1) * ROWS <= w.shape[0]
        rows, first = (w, n * ROWS) if whole else (filled_up(w, n * ROWS), 0)
        tile = local(PART, float32)
        for start in range(0, x.shape[1], DEEP):
            stop = min(start + DEEP, x.shape[1])
            if x.shape[0] == 1:
                low = high = splat(np.float32(0))
                for k in range(start, stop, 16):
                    ask_ahead(w, ROWS, n * ROWS, 2 * k, 32)
                    low = add_columns(columns_f16(rows, first, 2 * k), x[0], k, low)
                    if WIDE:
                        high = add_columns(columns_f16(rows, first + 16, 2 * k), x[0], k, high)
                add_to(y[0], n * ROWS, low)
                if WIDE:
                    add_to(y[0], n * ROWS + 16, high)
            else:
                for k in range(start, stop, 16):
                    ask_ahead(w, ROWS, n * ROWS, 2 * k, 32)
                    store_apart(tile, (k - start) * ROWS, ROWS, columns_f16(rows, first, 2 * k))
                    if WIDE:
                        store_apart(tile, (k - start) * ROWS + 16, ROWS, columns_f16(rows, first + 16, 2 * k))
                for p in range(packs.shape[0]):
                    add_block(tile, packs[p], start, stop, y, p * TOKENS, n * ROWS)


@kernel(parallel=True)
def matmul_bf16(w, bias, x, y):
    packs = packs_of(x)
    for n in prange(y.shape[1] // ROWS):
        fill(bias, y, n * ROWS)
        whole = (n + 1) * ROWS <= w.shape[0]
        rows, first = (w, n * ROWS) if whole else (filled_up(w, n * ROWS), 0)
        tile = local(PART, float32)
        for start in range(0, x.shape[1], DEEP):
            stop = min(start + DEEP, x.shape[1])
            if x.shape[0] == 1:
                low = high = splat(np.float32(0))
                for k in range(start, stop, 16):
                    ask_ahead(w, ROWS, n * ROWS, 2 * k, 32)
                    low = add_columns(columns_bf16(rows, first, 2 * k), x[0], k, low)
                    if WIDE:
                        high = add_columns(columns_bf16(rows, first + 16, 2 * k), x[0], k, high)
                add_to(y[0], n * ROWS, low)
                if WIDE:
                    add_to(y[0], n * ROWS + 16, high)
            else:
                for k in range(start, stop, 16):
                    ask_ahead(w, ROWS, n * ROWS, 2 * k, 32)
                    store_apart(tile, (k - start) * ROWS, ROWS, columns_bf16(rows, first, 2 * k))
                    if WIDE:
                        store_apart(
                            tile, (k - start) * ROWS + 16, ROWS, columns_bf16(rows, first + 16, 2 * k)
                        )
                for p in range(packs.shape[0]):
                    add_block(tile, packs[p], start, stop, y, p * TOKENS, n * ROWS)
