"""Quantized matrix times the activations of any number of tokens: each weight is read and unpacked once.

16 rows of a matrix are a tile. DEEP * 32 columns of it are unpacked at a time, into the nearest cache, and
there meet all tokens. Integers come as bytes, 4 columns of all 16 rows in one 64-byte vector:
[DEEP, 8, 16 rows, 4]; and with them the scales of the rows, [DEEP, 16] (Q6_K: [DEEP, 2, 16]). Each lane of a
dot product then belongs to one row, and no sum across lanes is ever needed.

For a row and a token, integers are summed up over 32 (Q6_K: 16) columns, and these sums, scaled, in order of
columns, in float32. So the same bits come out whatever other tokens there are.

w uint8 [N, row bytes]; x as in quantize.Quantized; y float32 [T, N] is written. The block layouts are drawn
in gguf_io/quants.py. One function per type, so that only the types that a file holds are compiled.
"""

from __future__ import annotations

import numpy as np
from numba import float32, prange, uint8

from gguf_io.quants import IQ4_LEVELS
from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.simd import (
    BIAS,
    and_all,
    as_words,
    between,
    biased,
    dot4,
    each,
    fma,
    high_f16,
    load_f32x16,
    load_i8x16,
    load_i8x64,
    load_like,
    local,
    look_up,
    low_f16,
    mul,
    mul_i32,
    no_sums,
    or_,
    prefetch,
    shl,
    shr,
    signed_byte,
    splat,
    store,
    sub,
    sub_i32,
    to_f32,
    turned4,
    turned8,
    unsigned_byte,
)  # fmt: skip

ROWS = 16
DEEP = 32  # times 32 columns that are unpacked at a time
TILE, SCALES, TWICE_SCALES = DEEP * 512, DEEP * 16, DEEP * 32
LEVELS = IQ4_LEVELS.view(np.uint8)
FEW = 16  # the sums of so many tokens fit on the stack
FEW_SUMS = FEW * ROWS


@kernel()
def filled_up(w):
    """Fewer than 16 rows, and rows of zeros."""
    whole = np.zeros((ROWS, w.shape[1]), np.uint8)
    for r in range(w.shape[0]):
        for i in range(w.shape[1]):
            whole[r, i] = w[r, i]
    return whole


@kernel(forceinline=True)
def tiles(w):
    return (w.shape[0] + ROWS - 1) // ROWS


@kernel(forceinline=True)
def first_row(tile, w):
    """Tiles start every 16 rows; the last one ends with the matrix and may overlap the one before."""
    return min(tile * ROWS, w.shape[0] - ROWS)


@kernel(forceinline=True)
def ask_ahead(w, first, o, size):
    """While bytes o to o + size of each row are unpacked, as much of the next tile is asked for, line
    by line: the hardware sees 16 places in turn where unpacking reads, and so foresees nothing. A few
    lines at a time: it can wait for a dozen or so."""
    start = (first + ROWS) * w.shape[1] + o * ROWS
    for i in range(start, start + ROWS * size, 64):
        prefetch(w, i)


@kernel(forceinline=True)
def put(y, first, sums):
    """sums [T * 16] -> y[:, first : first + 16]."""
    for t in range(y.shape[0]):
        if y.shape[1] >= ROWS:
            store(y[t], first, load_f32x16(sums, 16 * t))
        else:
            for r in range(y.shape[1]):
                y[t, r] = sums[16 * t + r]


@kernel(forceinline=True)
def clear(sums, tokens):
    """sums [tokens * 16] = 0."""
    for t in range(tokens):
        store(sums, ROWS * t, splat(np.float32(0)))


# ---- an unpacked block times tokens


@kernel(forceinline=True)
def times_group(like, tile, scale, low, offset, per, x, block, count, t, out):
    """The tokens from t on that `like` has lanes for. See times_tokens."""
    q, d, sums, d_sums = x
    columns, blocks = q.shape[1], d.shape[1]
    f = load_like(out, ROWS * t, like)
    for i in range(count):
        at = t * blocks + block + i
        whole = each(sums, 2 * at + 1, 2 * blocks, like)
        for part in range(32 // per):
            h = i * 32 // per + part
            a = whole
            if per == 16:
                a = each(sums, 2 * at, 2 * blocks, like)
                if part:
                    a = sub_i32(whole, a)
            a = mul_i32(a, splat(np.int32(offset)))
            for g in range(per // 4):
                here = 32 * at + part * per + 4 * g
                a = dot4(q, here, columns, load_i8x64(tile, (h * per // 4 + g) * 64), a)
            s = mul(load_f32x16(scale, ROWS * h), each(d, at, blocks, like))
            f = fma(to_f32(a), s, f)
            if low is not None:
                f = fma(load_f32x16(low, ROWS * h), each(d_sums, at, blocks, like), f)
    store(out, ROWS * t, f)


@kernel(forceinline=True)
def times_tokens(tile, scale, low, offset, per, x, block, count, out):
    """out [T * 16] += x's blocks of 32 columns from `block` on, `count` of them, times the tile's.

    Weights are scale * (integer - offset) - low, with one scale, and low, for `per` columns.
    """
    t, tokens = 0, x[0].shape[0]
    while t + 4 <= tokens:
        times_group(no_sums(4), tile, scale, low, offset, per, x, block, count, t, out)
        t += 4
    while t < tokens:
        times_group(no_sums(1), tile, scale, low, offset, per, x, block, count, t, out)
        t += 1


# ---- one type each: unpack a block, multiply it


@kernel(forceinline=True)
def put_bytes(scale, at, v, d):
    """scale[at : at + 64] = the 4 bytes of each row in v, times d."""
    store(scale, at, mul(unsigned_byte(v, 0), d))
    store(scale, at + 16, mul(unsigned_byte(v, 1), d))
    store(scale, at + 32, mul(unsigned_byte(v, 2), d))
    store(scale, at + 48, mul(unsigned_byte(v, 3), d))


@kernel(forceinline=True)
def unpack_k_scales(w, first, o, scale, low):
    """The first 16 bytes of a block of Q4_K or Q5_K."""
    v, a, b, c = turned4(w, first, o)
    d, minimum = low_f16(v), high_f16(v)
    put_bytes(scale, 0, and_all(a, 0x3F), d)
    put_bytes(scale, 64, or_(and_all(c, 0x0F), and_all(shr(a, 2), 0x30)), d)
    put_bytes(low, 0, and_all(b, 0x3F), minimum)
    put_bytes(low, 64, or_(shr(c, 4), and_all(shr(b, 2), 0x30)), minimum)


@kernel(forceinline=True)
def unpack_q4_k(w, first, o, tile, scale, low):
    unpack_k_scales(w, first, o, scale, low)
    for j in range(4):
        ask_ahead(w, first, o + 36 * j, 36)
        v = turned8(w, first, o + 16 + 32 * j)
        store(tile, 1024 * j, and_all(v, 15))
        store(tile, 1024 * j + 512, shr(v, 4))


@kernel(forceinline=True)
def tile_q4_k(w, n, q, d, sums, d_sums, y, out):
    first = first_row(n, w)
    clear(out, q.shape[0])
    tile, scale, low = local(TILE, uint8), local(SCALES, float32), local(SCALES, float32)
    for b in range(0, d.shape[1], DEEP):
        count = min(DEEP, d.shape[1] - b)
        for i in range(0, count, 8):
            o = 144 * (b + i) // 8
            unpack_q4_k(w, first, o, tile[512 * i :], scale[16 * i :], low[16 * i :])
        times_tokens(tile, scale, low, 0, 32, (q, d, sums, d_sums), b, count, out)
    put(y, first, out)


@kernel(parallel=True)
def matmul_q4_k(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    for n in prange(tiles(w)):
        out = local(FEW_SUMS, float32) if q.shape[0] <= FEW else np.empty(q.shape[0] * ROWS, np.float32)
        tile_q4_k(w, n, q, d, sums, d_sums, y, out)


@kernel(forceinline=True)
def unpack_q5_k(w, first, o, tile, scale, low):
    unpack_k_scales(w, first, o, scale, low)
    h = turned8(w, first, o + 16)
    for j in range(4):
        ask_ahead(w, first, o + 44 * j, 44)
        v = turned8(w, first, o + 48 + 32 * j)
        store(tile, 1024 * j, or_(and_all(v, 15), shl(and_all(h, 1), 4)))
        store(tile, 1024 * j + 512, or_(shr(v, 4), shl(and_all(h, 2), 3)))
        h = shr(h, 2)


@kernel(forceinline=True)
def tile_q5_k(w, n, q, d, sums, d_sums, y, out):
    first = first_row(n, w)
    clear(out, q.shape[0])
    tile, scale, low = local(TILE, uint8), local(SCALES, float32), local(SCALES, float32)
    for b in range(0, d.shape[1], DEEP):
        count = min(DEEP, d.shape[1] - b)
        for i in range(0, count, 8):
            o = 176 * (b + i) // 8
            unpack_q5_k(w, first, o, tile[512 * i :], scale[16 * i :], low[16 * i :])
        times_tokens(tile, scale, low, 0, 32, (q, d, sums, d_sums), b, count, out)
    put(y, first, out)


@kernel(parallel=True)
def matmul_q5_k(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    for n in prange(tiles(w)):
        out = local(FEW_SUMS, float32) if q.shape[0] <= FEW else np.empty(q.shape[0] * ROWS, np.float32)
        tile_q5_k(w, n, q, d, sums, d_sums, y, out)


@kernel(forceinline=True)
def put_signed_bytes(scale, at, v, d):
    store(scale, at, mul(d, signed_byte(v, 0)))
    store(scale, at + 16, mul(d, signed_byte(v, 1)))
    store(scale, at + 32, mul(d, signed_byte(v, 2)))
    store(scale, at + 48, mul(d, signed_byte(v, 3)))


@kernel(forceinline=True)
def unpack_q6_k(w, first, o, tile, scale):
    d = high_f16(turned4(w, first, o + 194)[3])
    v0, v1, v2, v3 = turned4(w, first, o + 192)
    put_signed_bytes(scale, 0, v0, d)
    put_signed_bytes(scale, 64, v1, d)
    put_signed_bytes(scale, 128, v2, d)
    put_signed_bytes(scale, 192, v3, d)
    for j in range(2):
        ask_ahead(w, first, o + 105 * j, 35)
        v = turned8(w, first, o + 64 * j)
        ask_ahead(w, first, o + 105 * j + 35, 35)
        u = turned8(w, first, o + 64 * j + 32)
        ask_ahead(w, first, o + 105 * j + 70, 35)
        h, at = turned8(w, first, o + 128 + 32 * j), 2048 * j
        store(tile, at, or_(and_all(v, 15), shl(and_all(h, 3), 4)))
        store(tile, at + 512, or_(and_all(u, 15), shl(and_all(h, 12), 2)))
        store(tile, at + 1024, or_(shr(v, 4), and_all(h, 48)))
        store(tile, at + 1536, or_(shr(u, 4), and_all(shr(h, 2), 48)))


@kernel(forceinline=True)
def tile_q6_k(w, n, q, d, sums, d_sums, y, out):
    first = first_row(n, w)
    clear(out, q.shape[0])
    tile, scale = local(TILE, uint8), local(TWICE_SCALES, float32)
    for b in range(0, d.shape[1], DEEP):
        count = min(DEEP, d.shape[1] - b)
        for i in range(0, count, 8):
            o = 210 * (b + i) // 8
            unpack_q6_k(w, first, o, tile[512 * i :], scale[32 * i :])
        times_tokens(tile, scale, None, 32, 16, (q, d, sums, d_sums), b, count, out)
    put(y, first, out)


@kernel(parallel=True)
def matmul_q6_k(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    for n in prange(tiles(w)):
        out = local(FEW_SUMS, float32) if q.shape[0] <= FEW else np.empty(q.shape[0] * ROWS, np.float32)
        tile_q6_k(w, n, q, d, sums, d_sums, y, out)


# Blocks of 32 begin with their scale, so their weights do not begin where words do. Two blocks do: the first
# one's words are put together of two each.


@kernel(forceinline=True)
def two_blocks_of_nibbles(w, first, o, scale):
    """Two blocks of 18 bytes -> 4 vectors of nibbles of each; their scales are stored."""
    v0, v1, v2, v3, v4, v5, v6, v7 = turned8(w, first, o)
    v8 = turned4(w, first, o + 20)[3]
    store(scale, 0, low_f16(v0))
    store(scale, 16, high_f16(v4))
    return between((v0, v1, v2, v3), (v1, v2, v3, v4)), (v5, v6, v7, v8)


@kernel(forceinline=True)
def unpack_two_q4_0(w, first, o, tile, scale):
    v, u = two_blocks_of_nibbles(w, first, o, scale)
    store(tile, 0, and_all(v, 15))
    store(tile, 256, shr(v, 4))
    store(tile, 512, and_all(u, 15))
    store(tile, 768, shr(u, 4))


@kernel(forceinline=True)
def tile_q4_0(w, n, q, d, sums, d_sums, y, out):
    first = first_row(n, w)
    clear(out, q.shape[0])
    tile, scale = local(TILE, uint8), local(SCALES, float32)
    for b in range(0, d.shape[1], DEEP):
        count = min(DEEP, d.shape[1] - b)
        for i in range(0, count, 2):
            ask_ahead(w, first, 18 * (b + i), 36)
            unpack_two_q4_0(w, first, 18 * (b + i), tile[512 * i :], scale[16 * i :])
        times_tokens(tile, scale, None, 8, 32, (q, d, sums, d_sums), b, count, out)
    put(y, first, out)


@kernel(parallel=True)
def matmul_q4_0(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    for n in prange(tiles(w)):
        out = local(FEW_SUMS, float32) if q.shape[0] <= FEW else np.empty(q.shape[0] * ROWS, np.float32)
        tile_q4_0(w, n, q, d, sums, d_sums, y, out)


@kernel(forceinline=True)
def put_levels(tile, at, v):
    """16 bytes of nibbles of each row, 4 vectors -> 32 columns."""
    levels = load_i8x16(LEVELS, 0)
    store(tile, at, biased(look_up(levels, and_all(v, 15))))
    store(tile, at + 256, biased(look_up(levels, shr(v, 4))))


@kernel(forceinline=True)
def unpack_two_iq4_nl(w, first, o, tile, scale):
    v, u = two_blocks_of_nibbles(w, first, o, scale)
    put_levels(tile, 0, v)
    put_levels(tile, 512, u)


@kernel(forceinline=True)
def tile_iq4_nl(w, n, q, d, sums, d_sums, y, out):
    first = first_row(n, w)
    clear(out, q.shape[0])
    tile, scale = local(TILE, uint8), local(SCALES, float32)
    for b in range(0, d.shape[1], DEEP):
        count = min(DEEP, d.shape[1] - b)
        for i in range(0, count, 2):
            ask_ahead(w, first, 18 * (b + i), 36)
            unpack_two_iq4_nl(w, first, 18 * (b + i), tile[512 * i :], scale[16 * i :])
        times_tokens(tile, scale, None, BIAS, 32, (q, d, sums, d_sums), b, count, out)
    put(y, first, out)


@kernel(parallel=True)
def matmul_iq4_nl(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    for n in prange(tiles(w)):
        out = local(FEW_SUMS, float32) if q.shape[0] <= FEW else np.empty(q.shape[0] * ROWS, np.float32)
        tile_iq4_nl(w, n, q, d, sums, d_sums, y, out)


@kernel(forceinline=True)
def unpack_iq4_xs(w, first, o, tile, scale):
    v, low, _, _ = turned4(w, first, o)
    d, low, top = low_f16(v), as_words(low), shr(as_words(v), 12)
    for j in range(8):
        number = or_(and_all(low, 15), and_all(top, 48))
        store(scale, 16 * j, mul(d, sub(to_f32(number), splat(np.float32(32)))))
        low, top = shr(low, 4), shr(top, 2)
    for j in range(4):
        ask_ahead(w, first, o + 34 * j, 34)
        put_levels(tile, 1024 * j, turned4(w, first, o + 8 + 32 * j))
        put_levels(tile, 1024 * j + 512, turned4(w, first, o + 24 + 32 * j))


@kernel(forceinline=True)
def tile_iq4_xs(w, n, q, d, sums, d_sums, y, out):
    first = first_row(n, w)
    clear(out, q.shape[0])
    tile, scale = local(TILE, uint8), local(SCALES, float32)
    for b in range(0, d.shape[1], DEEP):
        count = min(DEEP, d.shape[1] - b)
        for i in range(0, count, 8):
            o = 136 * (b + i) // 8
            unpack_iq4_xs(w, first, o, tile[512 * i :], scale[16 * i :])
        times_tokens(tile, scale, None, BIAS, 32, (q, d, sums, d_sums), b, count, out)
    put(y, first, out)


@kernel(parallel=True)
def matmul_iq4_xs(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    for n in prange(tiles(w)):
        out = local(FEW_SUMS, float32) if q.shape[0] <= FEW else np.empty(q.shape[0] * ROWS, np.float32)
        tile_iq4_xs(w, n, q, d, sums, d_sums, y, out)


@kernel(forceinline=True)
def unpack_two_q8_0(w, first, o, tile, scale):
    v0, v1, v2, v3, v4, v5, v6, v7 = turned8(w, first, o)
    v8 = turned4(w, first, o + 20)[3]
    store(scale, 0, low_f16(v0))
    store(scale, 16, high_f16(v8))
    v = between((v0, v1, v2, v3, v4, v5, v6, v7), (v1, v2, v3, v4, v5, v6, v7, v8))
    store(tile, 0, biased(v))
    store(tile, 512, biased(turned8(w, first, o + 36)))


@kernel(forceinline=True)
def tile_q8_0(w, n, q, d, sums, d_sums, y, out):
    first = first_row(n, w)
    clear(out, q.shape[0])
    tile, scale = local(TILE, uint8), local(SCALES, float32)
    for b in range(0, d.shape[1], DEEP):
        count = min(DEEP, d.shape[1] - b)
        for i in range(0, count, 2):
            o = 34 * (b + i)
            ask_ahead(w, first, o, 68)
            unpack_two_q8_0(w, first, o, tile[512 * i :], scale[16 * i :])
        times_tokens(tile, scale, None, BIAS, 32, (q, d, sums, d_sums), b, count, out)
    put(y, first, out)


@kernel(parallel=True)
def matmul_q8_0(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    for n in prange(tiles(w)):
        out = local(FEW_SUMS, float32) if q.shape[0] <= FEW else np.empty(q.shape[0] * ROWS, np.float32)
        tile_q8_0(w, n, q, d, sums, d_sums, y, out)
