"""Matrix times many vectors, for prefill: 16 rows are unpacked to bytes once and then meet all tokens.

A tile holds 16 rows. For each 32 columns it has 512 bytes of integers, ordered so that one 64-byte vector is
4 columns of all 16 rows: [K/32, 8, 16 rows, 4], and the scale of each row there: [K/32, 16] (Q6_K: [K/16,
16]). Each lane of a dot product then belongs to one row, and no sum across lanes is ever needed.

w uint8 [N, row bytes], N >= 16; x as in quantize.Quantized, its rows padded to a multiple of 4 tokens;
y float32 [padded T, N] is written.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.rows import LEVELS, iq4_xs_scale, k_scales
from qwen_ref.kernels.simd import (
    BIAS,
    and_all,
    biased,
    broadcast4,
    dot4,
    fma,
    join,
    load_f16,
    load_f32x16,
    load_i8x16,
    load_i8x32,
    load_i8x64,
    look_up,
    mul,
    or_,
    scatter4,
    shl,
    shr,
    splat,
    splat8,
    store,
    to_f32,
)  # fmt: skip

ROWS = 16


@kernel()
def first_row(tile, rows):
    """Tiles start every 16 rows; the last one ends with the matrix and may overlap the one before."""
    return min(tile * ROWS, rows - ROWS)


# ---- the product of an unpacked tile with all tokens, 4 at a time


@kernel()
def tile_times_tokens(tile, scale, offset, q, d, sums, y, first):
    """Weights are scale * (integer - offset), one scale per 32 columns."""
    columns = q.shape[1]
    blocks = columns // 32
    for t in range(0, q.shape[0], 4):
        f0 = f1 = f2 = f3 = splat(np.float32(0))
        for b in range(blocks):
            j = t * columns + b * 32
            a0 = splat(np.int32(offset) * (sums[t, 2 * b] + sums[t, 2 * b + 1]))
            a1 = splat(np.int32(offset) * (sums[t + 1, 2 * b] + sums[t + 1, 2 * b + 1]))
            a2 = splat(np.int32(offset) * (sums[t + 2, 2 * b] + sums[t + 2, 2 * b + 1]))
            a3 = splat(np.int32(offset) * (sums[t + 3, 2 * b] + sums[t + 3, 2 * b + 1]))
            for g in range(8):
                w = load_i8x64(tile, b * 512 + g * 64)
                a0 = dot4(a0, w, broadcast4(q, j + 4 * g))
                a1 = dot4(a1, w, broadcast4(q, j + columns + 4 * g))
                a2 = dot4(a2, w, broadcast4(q, j + 2 * columns + 4 * g))
                a3 = dot4(a3, w, broadcast4(q, j + 3 * columns + 4 * g))
            s = load_f32x16(scale, b * 16)
            f0 = fma(to_f32(a0), mul(s, splat(d[t, b])), f0)
            f1 = fma(to_f32(a1), mul(s, splat(d[t + 1, b])), f1)
            f2 = fma(to_f32(a2), mul(s, splat(d[t + 2, b])), f2)
            f3 = fma(to_f32(a3), mul(s, splat(d[t + 3, b])), f3)
        store(y[t], first, f0)
        store(y[t + 1], first, f1)
        store(y[t + 2], first, f2)
        store(y[t + 3], first, f3)


@kernel()
def minus_sum(d, sums, t, b):
    """Minus the sum of 32 activations."""
    return splat(d[t, b] * np.float32(sums[t, 2 * b] + sums[t, 2 * b + 1]))


@kernel()
def tile_times_tokens_low(tile, scale, low, q, d, sums, y, first):
    """Weights are scale * integer - low, one of each per 32 columns."""
    columns = q.shape[1]
    for t in range(0, q.shape[0], 4):
        f0 = f1 = f2 = f3 = splat(np.float32(0))
        for b in range(columns // 32):
            j = t * columns + b * 32
            a0 = a1 = a2 = a3 = splat(np.int32(0))
            for g in range(8):
                w = load_i8x64(tile, b * 512 + g * 64)
                a0 = dot4(a0, w, broadcast4(q, j + 4 * g))
                a1 = dot4(a1, w, broadcast4(q, j + columns + 4 * g))
                a2 = dot4(a2, w, broadcast4(q, j + 2 * columns + 4 * g))
                a3 = dot4(a3, w, broadcast4(q, j + 3 * columns + 4 * g))
            s, m = load_f32x16(scale, b * 16), load_f32x16(low, b * 16)
            f0 = fma(m, minus_sum(d, sums, t, b), fma(to_f32(a0), mul(s, splat(d[t, b])), f0))
            f1 = fma(m, minus_sum(d, sums, t + 1, b), fma(to_f32(a1), mul(s, splat(d[t + 1, b])), f1))
            f2 = fma(m, minus_sum(d, sums, t + 2, b), fma(to_f32(a2), mul(s, splat(d[t + 2, b])), f2))
            f3 = fma(m, minus_sum(d, sums, t + 3, b), fma(to_f32(a3), mul(s, splat(d[t + 3, b])), f3))
        store(y[t], first, f0)
        store(y[t + 1], first, f1)
        store(y[t + 2], first, f2)
        store(y[t + 3], first, f3)


@kernel()
def tile_times_tokens_16(tile, scale, offset, q, d, sums, y, first):
    """Weights are scale * (integer - offset), one scale per 16 columns."""
    columns = q.shape[1]
    for t in range(0, q.shape[0], 4):
        f0 = f1 = f2 = f3 = splat(np.float32(0))
        for h in range(columns // 16):
            b, j = h // 2, t * columns + h * 16
            a0 = splat(np.int32(offset) * sums[t, h])
            a1 = splat(np.int32(offset) * sums[t + 1, h])
            a2 = splat(np.int32(offset) * sums[t + 2, h])
            a3 = splat(np.int32(offset) * sums[t + 3, h])
            for g in range(4):
                w = load_i8x64(tile, h * 256 + g * 64)
                a0 = dot4(a0, w, broadcast4(q, j + 4 * g))
                a1 = dot4(a1, w, broadcast4(q, j + columns + 4 * g))
                a2 = dot4(a2, w, broadcast4(q, j + 2 * columns + 4 * g))
                a3 = dot4(a3, w, broadcast4(q, j + 3 * columns + 4 * g))
            s = load_f32x16(scale, h * 16)
            f0 = fma(to_f32(a0), mul(s, splat(d[t, b])), f0)
            f1 = fma(to_f32(a1), mul(s, splat(d[t + 1, b])), f1)
            f2 = fma(to_f32(a2), mul(s, splat(d[t + 2, b])), f2)
            f3 = fma(to_f32(a3), mul(s, splat(d[t + 3, b])), f3)
        store(y[t], first, f0)
        store(y[t + 1], first, f1)
        store(y[t + 2], first, f2)
        store(y[t + 3], first, f3)


# ---- one type each: unpack a tile, multiply it


@kernel()
def unpack_k_scales(row, o, block, r, scale, low):
    """Scales and minimums of one Q4_K or Q5_K block of row r of a tile."""
    scales, minimums = k_scales(row, o + 4)
    eight = np.empty(16, np.float32)
    store(eight, 0, mul(scales, splat8(load_f16(row, o))))
    store(eight, 8, mul(minimums, splat8(load_f16(row, o + 2))))
    for s in range(8):
        scale[(block * 8 + s) * 16 + r] = eight[s]
        low[(block * 8 + s) * 16 + r] = eight[8 + s]


@kernel(parallel=True)
def matmul_q4_k(w, q, d, sums, sums4, y):
    blocks = q.shape[1] // 256
    for n in prange((w.shape[0] + ROWS - 1) // ROWS):
        first = first_row(n, w.shape[0])
        tile = np.empty(blocks * 4096, np.uint8)
        scale, low = np.empty(blocks * 128, np.float32), np.empty(blocks * 128, np.float32)
        for r in range(ROWS):
            row = w[first + r]
            for b in range(blocks):
                o = b * 144
                unpack_k_scales(row, o, b, r, scale, low)
                for j in range(4):
                    v = load_i8x32(row, o + 16 + 32 * j)
                    scatter4(tile, b * 4096 + j * 1024 + r * 4, and_all(v, 15))
                    scatter4(tile, b * 4096 + j * 1024 + 512 + r * 4, shr(v, 4))
        tile_times_tokens_low(tile, scale, low, q, d, sums, y, first)


@kernel(parallel=True)
def matmul_q5_k(w, q, d, sums, sums4, y):
    blocks = q.shape[1] // 256
    for n in prange((w.shape[0] + ROWS - 1) // ROWS):
        first = first_row(n, w.shape[0])
        tile = np.empty(blocks * 4096, np.uint8)
        scale, low = np.empty(blocks * 128, np.float32), np.empty(blocks * 128, np.float32)
        for r in range(ROWS):
            row = w[first + r]
            for b in range(blocks):
                o = b * 176
                unpack_k_scales(row, o, b, r, scale, low)
                h = load_i8x32(row, o + 16)
                for j in range(4):
                    v = load_i8x32(row, o + 48 + 32 * j)
                    at = b * 4096 + j * 1024 + r * 4
                    scatter4(tile, at, or_(and_all(v, 15), shl(and_all(h, 1), 4)))
                    scatter4(tile, at + 512, or_(shr(v, 4), shl(and_all(h, 2), 3)))
                    h = shr(h, 2)
        tile_times_tokens_low(tile, scale, low, q, d, sums, y, first)


@kernel(parallel=True)
def matmul_q6_k(w, q, d, sums, sums4, y):
    blocks = q.shape[1] // 256
    for n in prange((w.shape[0] + ROWS - 1) // ROWS):
        first = first_row(n, w.shape[0])
        tile, scale = np.empty(blocks * 4096, np.uint8), np.empty(blocks * 256, np.float32)
        for r in range(ROWS):
            row = w[first + r]
            for b in range(blocks):
                o = b * 210
                super_scale = load_f16(row, o + 208)
                for s in range(16):
                    scale[(b * 16 + s) * 16 + r] = super_scale * np.float32(np.int8(row[o + 192 + s]))
                for half in range(2):
                    v0, v1 = load_i8x32(row, o + 64 * half), load_i8x32(row, o + 64 * half + 32)
                    h = load_i8x32(row, o + 128 + 32 * half)
                    at = b * 4096 + half * 2048 + r * 4
                    scatter4(tile, at, or_(and_all(v0, 15), shl(and_all(h, 3), 4)))
                    scatter4(tile, at + 512, or_(and_all(v1, 15), shl(and_all(h, 12), 2)))
                    scatter4(tile, at + 1024, or_(shr(v0, 4), and_all(h, 48)))
                    scatter4(tile, at + 1536, or_(shr(v1, 4), and_all(shr(h, 2), 48)))
        tile_times_tokens_16(tile, scale, 32, q, d, sums, y, first)


@kernel(parallel=True)
def matmul_q4_0(w, q, d, sums, sums4, y):
    blocks = q.shape[1] // 32
    for n in prange((w.shape[0] + ROWS - 1) // ROWS):
        first = first_row(n, w.shape[0])
        tile, scale = np.empty(blocks * 512, np.uint8), np.empty(blocks * 16, np.float32)
        for r in range(ROWS):
            row = w[first + r]
            for b in range(blocks):
                scale[b * 16 + r] = load_f16(row, b * 18)
                v = load_i8x16(row, b * 18 + 2)
                scatter4(tile, b * 512 + r * 4, join(and_all(v, 15), shr(v, 4)))
        tile_times_tokens(tile, scale, 8, q, d, sums, y, first)


@kernel(parallel=True)
def matmul_q8_0(w, q, d, sums, sums4, y):
    blocks = q.shape[1] // 32
    for n in prange((w.shape[0] + ROWS - 1) // ROWS):
        first = first_row(n, w.shape[0])
        tile, scale = np.empty(blocks * 512, np.uint8), np.empty(blocks * 16, np.float32)
        for r in range(ROWS):
            row = w[first + r]
            for b in range(blocks):
                scale[b * 16 + r] = load_f16(row, b * 34)
                scatter4(tile, b * 512 + r * 4, biased(load_i8x32(row, b * 34 + 2)))
        tile_times_tokens(tile, scale, BIAS, q, d, sums, y, first)


@kernel()
def levels_of(v):
    """16 bytes of nibbles -> 32 biased IQ4 levels."""
    nibbles = join(and_all(v, 15), shr(v, 4))
    return biased(look_up(load_i8x16(LEVELS, 0), nibbles))


@kernel(parallel=True)
def matmul_iq4_nl(w, q, d, sums, sums4, y):
    blocks = q.shape[1] // 32
    for n in prange((w.shape[0] + ROWS - 1) // ROWS):
        first = first_row(n, w.shape[0])
        tile, scale = np.empty(blocks * 512, np.uint8), np.empty(blocks * 16, np.float32)
        for r in range(ROWS):
            row = w[first + r]
            for b in range(blocks):
                scale[b * 16 + r] = load_f16(row, b * 18)
                scatter4(tile, b * 512 + r * 4, levels_of(load_i8x16(row, b * 18 + 2)))
        tile_times_tokens(tile, scale, BIAS, q, d, sums, y, first)


@kernel(parallel=True)
def matmul_iq4_xs(w, q, d, sums, sums4, y):
    blocks = q.shape[1] // 32
    for n in prange((w.shape[0] + ROWS - 1) // ROWS):
        first = first_row(n, w.shape[0])
        tile, scale = np.empty(blocks * 512, np.uint8), np.empty(blocks * 16, np.float32)
        for r in range(ROWS):
            row = w[first + r]
            for b in range(blocks):
                o = b // 8 * 136
                scale[b * 16 + r] = load_f16(row, o) * iq4_xs_scale(row, o, b % 8)
                scatter4(tile, b * 512 + r * 4, levels_of(load_i8x16(row, o + 8 + 16 * (b % 8))))
        tile_times_tokens(tile, scale, BIAS, q, d, sums, y, first)
