"""Quantized matrix times the activations of any number of tokens: each weight is read and unpacked once.

16 rows of a matrix are a tile. Its integers are unpacked to bytes, 4 columns of all 16 rows in one 64-byte
vector, and with them come the scales of the rows, 16 in a vector. Each lane of a dot product then belongs to
one row, and no sum across lanes is ever needed.

One token meets 32 columns as soon as they are unpacked, in registers; so do up to four where these are long,
and take little longer than one, which waits for memory. For more, DEEP * 32 columns are unpacked at a time,
into the nearest cache, and there meet all tokens: bytes as [DEEP, 8, 16 rows, 4], scales as [DEEP, 16] (Q6_K:
[DEEP, 2, 16]). Many tokens meet two tiles of Q8_0 side by side, where there are registers for it.

For a row and a token, integers are summed up over 32 (Q6_K: 16) columns, and these sums, scaled, in order of
columns, in float32. So the same bits come out whatever other tokens there are.

w uint8 [N, row bytes]; x as in quantize.Quantized; y float32 [T, N] is written. The block layouts are drawn
in gguf_io/quants.py. One product per type, so that only the types that a file holds are compiled.
"""

from __future__ import annotations

import numpy as np
from numba import float32, prange, uint8

from gguf_io.quants import IQ4_LEVELS
from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.matmul_float import ask_ahead
from qwen_ref.kernels.simd import (
    BIAS,
    FEATURES,
    PART,
    TOGETHER,
    and_all,
    as_words,
    between,
    biased,
    dot_columns,
    dot_columns_of_two,
    each,
    fma,
    high_f16,
    lent,
    load_columns,
    load_f32x16,
    load_i8x16,
    load_like,
    local,
    look_up,
    low_f16,
    mul,
    no_dots,
    no_part_sums,
    no_sums,
    or_,
    shl,
    shr,
    signed_byte,
    splat,
    store,
    store_apart,
    sub,
    times_offset,
    to_f32,
    turned4,
    turned8,
    unsigned_byte,
)  # fmt: skip

ROWS = 16
DEEP = 32  # times 32 columns that are unpacked at a time
TILE, NUMBERS = DEEP * 512, DEEP * 32
LEVELS = IQ4_LEVELS.view(np.uint8)
LONG = PART == ROWS  # are registers so long that sums of several tokens stay in them beside 32 columns?
FEW = 16  # the sums of so many tokens fit on the stack
FEW_SUMS = FEW * ROWS
PAIRS = "avx512f" in FEATURES  # are there registers for the sums of two tiles?
SHALLOW = DEEP // 2  # of two tiles at a time

# One token, two, three, four and more are compiled apart, and each product must be the same there: not even
# two may be done in another order.
inlined = kernel(forceinline=True, fastmath=False)


@kernel()
def filled_up(w):
    """Fewer than 16 rows, and rows of zeros."""
    whole = np.zeros((ROWS, w.shape[1]), np.uint8)
    for r in range(w.shape[0]):
        for i in range(w.shape[1]):
            whole[r, i] = w[r, i]
    return whole


@inlined
def tiles(w):
    return (w.shape[0] + ROWS - 1) // ROWS


@inlined
def first_row(tile, w):
    """Tiles start every 16 rows; the last one ends with the matrix and may overlap the one before."""
    return min(tile * ROWS, w.shape[0] - ROWS)


@inlined
def put(y, first, sums):
    """sums [T * 16] -> y[:, first : first + 16]."""
    for t in range(y.shape[0]):
        if y.shape[1] >= ROWS:
            store(y[t], first, load_f32x16(sums, 16 * t))
        else:
            for r in range(y.shape[1]):
                y[t, r] = sums[16 * t + r]


# ---- what becomes of 32 unpacked columns: v, 8 vectors, and the numbers that they come with. Either they
# meet tokens at once, to = (t, offset, *x): those from t on, f being their rows' sums; or they are kept.
#
# A weight is scale * (integer - offset) - low.


@inlined
def meet(to, block, v, numbers, f):
    """numbers: the scale."""
    t, offset, q, d, sums, _ = to
    blocks = d.shape[1]
    at = t * blocks + block
    a = times_offset(sums, 2 * at + 1, None, 2 * blocks, offset, f)
    a = dot_columns(q, 32 * at, q.shape[1], v, a)
    return fma(to_f32(a), mul(numbers[0], each(d, at, blocks, f)), f)


@inlined
def meet_with_low(to, block, v, numbers, f):
    """numbers: the scale and low; there is no offset."""
    t, _, q, d, _, d_sums = to
    blocks = d.shape[1]
    at = t * blocks + block
    a = dot_columns(q, 32 * at, q.shape[1], v, no_dots(f))
    f = fma(to_f32(a), mul(numbers[0], each(d, at, blocks, f)), f)
    return fma(numbers[1], each(d_sums, at, blocks, f), f)


@inlined
def meet_halves(to, block, v, numbers, f):
    """numbers: the scales of 16 columns each."""
    t, offset, q, d, sums, _ = to
    blocks = d.shape[1]
    at = t * blocks + block
    v0, v1, v2, v3, v4, v5, v6, v7 = v
    a = times_offset(sums, 2 * at, None, 2 * blocks, offset, f)
    a = dot_columns(q, 32 * at, q.shape[1], (v0, v1, v2, v3), a)
    part = mul(to_f32(a), numbers[0])
    b = times_offset(sums, 2 * at + 1, 2 * at, 2 * blocks, offset, f)
    b = dot_columns(q, 32 * at + 16, q.shape[1], (v4, v5, v6, v7), b)
    part = fma(to_f32(b), numbers[1], part)
    return fma(part, each(d, at, blocks, f), f)


@inlined
def keep(to, block, v, numbers, f):
    tile, kept, start = to
    store(tile, 512 * (block - start), v)
    store(kept, 16 * len(numbers) * (block - start), numbers)
    return f


@inlined
def meet_kept(meet, like, tile, kept, to, start, stop, out, sums):
    """As many tokens as there are sums, whatever is in them."""
    for row in range(0, ROWS, PART):
        f = load_like(out, ROWS * to[0] + row, sums)
        for b in range(start, stop):
            i = b - start
            numbers = load_like(kept, ROWS * len(like) * i + row, like)
            f = meet(to, b, load_columns(tile, 512 * i + 4 * row, f), numbers, f)
        store_apart(out, ROWS * to[0] + row, ROWS, f)


@inlined
def in_registers(unpack, meet, f, size, step, offset, n, arrays):
    """As many tokens as f has sums."""
    w, q, d, sums, d_sums, y = arrays
    first, out = first_row(n, w), local(FEW_SUMS, float32)
    for b in range(0, d.shape[1], step):
        f = unpack(w, first, b // step * size, meet, (0, offset, q, d, sums, d_sums), b, f)
    store(out, 0, f)
    put(y, first, out)


@inlined
def several_tokens(unpack, meet, like, size, step, offset, n, arrays):
    w, q, d, sums, d_sums, y = arrays
    first, (tokens, blocks) = first_row(n, w), d.shape
    out = local(FEW_SUMS, float32) if tokens <= FEW else np.empty(tokens * ROWS, np.float32)
    for t in range(tokens):
        store(out, ROWS * t, splat(np.float32(0)))
    tile, kept = local(TILE, uint8), local(NUMBERS, float32)
    for start in range(0, blocks, DEEP):
        stop = min(start + DEEP, blocks)
        for b in range(start, stop, step):
            unpack(w, first, b // step * size, keep, (tile, kept, start), b, like)
        t = 0
        while t + TOGETHER <= tokens:
            to = t, offset, q, d, sums, d_sums
            meet_kept(meet, like, tile, kept, to, start, stop, out, no_part_sums(TOGETHER))
            t += TOGETHER
        while t < tokens:
            to = t, offset, q, d, sums, d_sums
            meet_kept(meet, like, tile, kept, to, start, stop, out, no_part_sums(1))
            t += 1
    put(y, first, out)


@inlined
def multiply(unpack, meet, like, size, step, offset, n, arrays):
    """Tile n times all tokens. `size` bytes of a row hold `step` * 32 columns; `like` says how many numbers
    come with 32 of them."""
    tokens = arrays[1].shape[0]
    if tokens == 1:
        in_registers(unpack, meet, no_sums(1), size, step, offset, n, arrays)
    elif LONG and tokens == 2:
        in_registers(unpack, meet, no_sums(2), size, step, offset, n, arrays)
    elif LONG and tokens == 3:
        in_registers(unpack, meet, no_sums(3), size, step, offset, n, arrays)
    elif LONG and tokens == 4:
        in_registers(unpack, meet, no_sums(4), size, step, offset, n, arrays)
    else:
        several_tokens(unpack, meet, like, size, step, offset, n, arrays)


# ---- many tokens and two tiles side by side: what is read of a token then meets 32 rows. In the order of the
# sums nothing changes.


@inlined
def meet_kept_of_two(tile, kept, to, start, stop, group, out, f):
    """4 tokens from t on, a group; f has the sums of the first tile's rows, then of the other one's."""
    t, offset, q, d, sums, one = to
    blocks = d.shape[1]
    f = load_like(out, 8 * ROWS * group, f)
    for b in range(start, stop):
        i, at = b - start, t * blocks + b
        v, w = load_columns(tile, 512 * i, f), load_columns(tile, 512 * (SHALLOW + i), f)
        a = times_offset(sums, 2 * at + 1, None, 2 * blocks, offset, one)
        a = dot_columns_of_two(q, 32 * at, q.shape[1], v, w, a)
        scale = each(d, at, blocks, one)
        low = mul(load_f32x16(kept, 16 * i), scale)
        high = mul(load_f32x16(kept, 16 * (SHALLOW + i)), scale)
        f = fma(to_f32(a), low + high, f)
    store(out, 8 * ROWS * group, f)


@inlined
def many_tokens(unpack, size, step, offset, n, arrays):
    """Tiles n and n + 1 times all tokens; weights come with one number, as for `meet`."""
    w, q, d, sums, _, y = arrays
    tokens, blocks = d.shape
    first, second, groups = first_row(n, w), first_row(n + 1, w), (tokens + 3) // 4
    out, tile, kept = np.zeros(groups * 8 * ROWS, np.float32), local(TILE, uint8), local(NUMBERS, float32)
    for start in range(0, blocks, SHALLOW):
        stop = min(start + SHALLOW, blocks)
        for b in range(start, stop, step):
            unpack(w, first, b // step * size, keep, (tile, kept, start), b, no_sums(1))
        for b in range(start, stop, step):
            unpack(w, second, b // step * size, keep, (tile, kept, start - SHALLOW), b, no_sums(1))
        for g in range(groups):
            t = min(4 * g, tokens - 4)
            to = t, offset, q, d, sums, no_sums(4)
            meet_kept_of_two(tile, kept, to, start, stop, g, out, no_sums(8))
    for g in range(groups):
        t = min(4 * g, tokens - 4)
        for i in range(4):
            store(y[t + i], first, load_f32x16(out, (8 * g + i) * ROWS))
            store(y[t + i], second, load_f32x16(out, (8 * g + 4 + i) * ROWS))


# ---- one type each: unpack `step` * 32 columns of 16 rows, give them to `use`, 32 at a time


@inlined
def k_scales(w, first, o):
    """The first 16 bytes of a block of Q4_K or Q5_K: scales, and lows, a byte each, four in a word."""
    v, a, b, c = turned4(w, first, o)
    high_a, high_b = and_all(shr(a, 2), 0x30), and_all(shr(b, 2), 0x30)
    scales = as_words((and_all(a, 0x3F), or_(and_all(c, 0x0F), high_a)))
    lows = as_words((and_all(b, 0x3F), or_(shr(c, 4), high_b)))
    return low_f16(v), scales, high_f16(v), lows


@inlined
def unpack_q4_k(w, first, o, use, to, b, f):
    d, (scale, next_scale), minimum, (low, next_low) = k_scales(w, first, o)
    ask_ahead(w, ROWS, first, o, 16)
    for j in range(4):
        ask_ahead(w, ROWS, first, o + 16 + 32 * j, 32)
        v = turned8(w, first, o + 16 + 32 * j)
        numbers = mul(unsigned_byte(scale, 0), d), mul(unsigned_byte(low, 0), minimum)
        f = use(to, b + 2 * j, and_all(v, 15), numbers, f)
        numbers = mul(unsigned_byte(scale, 1), d), mul(unsigned_byte(low, 1), minimum)
        f = use(to, b + 2 * j + 1, shr(v, 4), numbers, f)
        scale, low = shr(scale, 16), shr(low, 16)
        if j == 1:
            scale, low = next_scale, next_low
    return f


@kernel(parallel=True)
def matmul_q4_k(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    for n in prange(tiles(w)):
        multiply(unpack_q4_k, meet_with_low, no_part_sums(2), 144, 8, 0, n, lent((w, q, d, sums, d_sums, y)))


@inlined
def unpack_q5_k(w, first, o, use, to, b, f):
    d, (scale, next_scale), minimum, (low, next_low) = k_scales(w, first, o)
    h = turned8(w, first, o + 16)
    ask_ahead(w, ROWS, first, o, 48)
    for j in range(4):
        ask_ahead(w, ROWS, first, o + 48 + 32 * j, 32)
        v = turned8(w, first, o + 48 + 32 * j)
        numbers = mul(unsigned_byte(scale, 0), d), mul(unsigned_byte(low, 0), minimum)
        f = use(to, b + 2 * j, or_(and_all(v, 15), shl(and_all(h, 1), 4)), numbers, f)
        numbers = mul(unsigned_byte(scale, 1), d), mul(unsigned_byte(low, 1), minimum)
        f = use(to, b + 2 * j + 1, or_(shr(v, 4), shl(and_all(h, 2), 3)), numbers, f)
        h, scale, low = shr(h, 2), shr(scale, 16), shr(low, 16)
        if j == 1:
            scale, low = next_scale, next_low
    return f


@kernel(parallel=True)
def matmul_q5_k(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    for n in prange(tiles(w)):
        multiply(unpack_q5_k, meet_with_low, no_part_sums(2), 176, 8, 0, n, lent((w, q, d, sums, d_sums, y)))


@inlined
def unpack_q6_k(w, first, o, use, to, b, f):
    _, _, _, s0, s1, s2, s3, s4 = turned8(w, first, o + 178)  # the last two of s0 and the first of s4: scales
    d = high_f16(s4)
    for j in range(2):
        ask_ahead(w, ROWS, first, o + 105 * j, 48)
        v = turned8(w, first, o + 64 * j)
        ask_ahead(w, ROWS, first, o + 105 * j + 48, 32)
        h = turned8(w, first, o + 128 + 32 * j)
        scales = mul(d, signed_byte(s0, 2)), mul(d, signed_byte(s0, 3))
        f = use(to, b + 4 * j, or_(and_all(v, 15), shl(and_all(h, 3), 4)), scales, f)
        u = turned8(w, first, o + 64 * j + 32)
        ask_ahead(w, ROWS, first, o + 105 * j + 80, 32)
        scales = mul(d, signed_byte(s1, 0)), mul(d, signed_byte(s1, 1))
        f = use(to, b + 4 * j + 1, or_(and_all(u, 15), shl(and_all(h, 12), 2)), scales, f)
        scales = mul(d, signed_byte(s1, 2)), mul(d, signed_byte(s1, 3))
        f = use(to, b + 4 * j + 2, or_(shr(v, 4), and_all(h, 48)), scales, f)
        scales = mul(d, signed_byte(s2, 0)), mul(d, signed_byte(s2, 1))
        f = use(to, b + 4 * j + 3, or_(shr(u, 4), and_all(shr(h, 2), 48)), scales, f)
        s0, s1, s2 = s2, s3, s4
    return f


@kernel(parallel=True)
def matmul_q6_k(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    for n in prange(tiles(w)):
        multiply(unpack_q6_k, meet_halves, no_part_sums(2), 210, 8, 32, n, lent((w, q, d, sums, d_sums, y)))


# Blocks of 32 begin with their scale, so their weights do not begin where words do. Two blocks do: the first
# one's words are put together of two each.


@inlined
def two_blocks_of_nibbles(w, first, o):
    """Two blocks of 18 bytes -> the scale and 4 vectors of nibbles of each."""
    v0, v1, v2, v3, v4, v5, v6, v7 = turned8(w, first, o)
    v8 = turned4(w, first, o + 20)[3]
    nibbles = between((v0, v1, v2, v3), (v1, v2, v3, v4))
    return (low_f16(v0),), nibbles, (high_f16(v4),), (v5, v6, v7, v8)


@inlined
def columns_q4_0(v):
    """16 bytes of nibbles of each row, 4 vectors -> 32 columns."""
    v0, v1, v2, v3 = and_all(v, 15)
    v4, v5, v6, v7 = shr(v, 4)
    return v0, v1, v2, v3, v4, v5, v6, v7


@inlined
def unpack_two_q4_0(w, first, o, use, to, b, f):
    ask_ahead(w, ROWS, first, o, 36)
    scale, v, next_scale, u = two_blocks_of_nibbles(w, first, o)
    f = use(to, b, columns_q4_0(v), scale, f)
    return use(to, b + 1, columns_q4_0(u), next_scale, f)


@kernel(parallel=True)
def matmul_q4_0(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    for n in prange(tiles(w)):
        multiply(unpack_two_q4_0, meet, no_part_sums(1), 36, 2, 8, n, lent((w, q, d, sums, d_sums, y)))


@inlined
def columns_iq4(v):
    levels = load_i8x16(LEVELS, 0)
    return biased(look_up(levels, columns_q4_0(v)))


@inlined
def unpack_two_iq4_nl(w, first, o, use, to, b, f):
    ask_ahead(w, ROWS, first, o, 36)
    scale, v, next_scale, u = two_blocks_of_nibbles(w, first, o)
    f = use(to, b, columns_iq4(v), scale, f)
    return use(to, b + 1, columns_iq4(u), next_scale, f)


@kernel(parallel=True)
def matmul_iq4_nl(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    for n in prange(tiles(w)):
        multiply(unpack_two_iq4_nl, meet, no_part_sums(1), 36, 2, BIAS, n, lent((w, q, d, sums, d_sums, y)))


@inlined
def unpack_iq4_xs(w, first, o, use, to, b, f):
    v, low, _, _ = turned4(w, first, o)
    d, low, top = low_f16(v), as_words(low), shr(as_words(v), 12)
    for j in range(8):
        if j % 2 == 0:
            ask_ahead(w, ROWS, first, o + 17 * j, 34)
        number = or_(and_all(low, 15), and_all(top, 48))
        scale = mul(d, sub(to_f32(number), splat(np.float32(32))))
        f = use(to, b + j, columns_iq4(turned4(w, first, o + 8 + 16 * j)), (scale,), f)
        low, top = shr(low, 4), shr(top, 2)
    return f


@kernel(parallel=True)
def matmul_iq4_xs(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    for n in prange(tiles(w)):
        multiply(unpack_iq4_xs, meet, no_part_sums(1), 136, 8, BIAS, n, lent((w, q, d, sums, d_sums, y)))


@inlined
def unpack_two_q8_0(w, first, o, use, to, b, f):
    ask_ahead(w, ROWS, first, o, 68)
    v0, v1, v2, v3, v4, v5, v6, v7 = turned8(w, first, o)
    v8 = turned4(w, first, o + 20)[3]
    v = between((v0, v1, v2, v3, v4, v5, v6, v7), (v1, v2, v3, v4, v5, v6, v7, v8))
    f = use(to, b, biased(v), (low_f16(v0),), f)
    return use(to, b + 1, biased(turned8(w, first, o + 36)), (high_f16(v8),), f)


@kernel(parallel=True)
def matmul_q8_0(w, q, d, sums, d_sums, y):
    w = w if w.shape[0] >= ROWS else filled_up(w)
    if PAIRS and q.shape[0] > FEW and w.shape[0] > ROWS:
        for n in prange((tiles(w) + 1) // 2):
            many_tokens(unpack_two_q8_0, 68, 2, BIAS, 2 * n, lent((w, q, d, sums, d_sums, y)))
    else:
        for n in prange(tiles(w)):
            multiply(unpack_two_q8_0, meet, no_part_sums(1), 68, 2, BIAS, n, lent((w, q, d, sums, d_sums, y)))
