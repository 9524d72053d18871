"""One row of a quantized matrix times one quantized vector, straight from the bytes as they lie in the file.

The block layouts are drawn in gguf_io/quants.py. Every function: row uint8 [row bytes], and the vector as in
quantize.Quantized: q int8 [K], d float32 [K/32], sums int32 [K/16], sums4 int32 [K/4] -> float32.

64 weights are taken at once. Where the stored integer is the weight plus 8, 32 or BIAS, the dot product
starts at minus that many times the sum of the four activations of each lane (sums4), which costs a shift.
"""

from __future__ import annotations

import numpy as np

from gguf_io.quants import IQ4_LEVELS
from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.simd import (
    and_all,
    bias_start,
    biased,
    block_nibbles,
    block_scales,
    block_scales4,
    bytes_to_f32,
    dot4,
    doubled,
    fma,
    halves,
    join,
    load_bf16x16,
    load_f16,
    load_f16x16,
    load_f32x8,
    load_f32x16,
    load_i8x16,
    load_i8x32,
    load_i8x64,
    load_i32x16,
    load_u32,
    look_up,
    mul,
    nibbles,
    or_,
    pair,
    prefetch,
    shl,
    shr,
    splat,
    splat8,
    spread,
    store,
    sum_lanes,
    sums32,
    to_f32,
    zero_i32,
)  # fmt: skip

AHEAD = 4096  # bytes that rows are asked for in advance: the hardware's own prefetching ends at each page
LEVELS = IQ4_LEVELS.view(np.uint8)
LOW6, LOW4, TOP2 = np.uint32(0x3F3F3F3F), np.uint32(0x0F0F0F0F), np.uint32(0x30303030)


@kernel()
def k_scales(row, at):
    """The 12 bytes of Q4_K and Q5_K -> 8 scales and 8 minimums, F32x8 each."""
    a, b, c = load_u32(row, at), load_u32(row, at + 4), load_u32(row, at + 8)
    scales = bytes_to_f32(a & LOW6, (c & LOW4) | ((a >> np.uint32(2)) & TOP2))
    minimums = bytes_to_f32(b & LOW6, ((c >> np.uint32(4)) & LOW4) | ((b >> np.uint32(2)) & TOP2))
    return scales, minimums


@kernel()
def scaled_dot(weights, q, at, scales, acc):
    """acc + scales * (64 weights . q[at:]), lane by lane."""
    return fma(to_f32(dot4(zero_i32(), weights, load_i8x64(q, at))), scales, acc)


@kernel()
def reorder_q4_k(q, out):
    """Of each 128 activations the runs of 32 in the order 0, 2, 1, 3, as nibbles of 64 bytes of Q4_K come."""
    for k in range(0, q.shape[0], 128):
        store(out, k, join(load_i8x32(q, k), load_i8x32(q, k + 64)))
        store(out, k + 64, join(load_i8x32(q, k + 32), load_i8x32(q, k + 96)))


@kernel()
def row_q4_k(row, q, d, sums):
    """q as reorder_q4_k leaves it."""
    acc, low = splat(np.float32(0)), splat8(np.float32(0))
    for b in range(q.shape[0] // 256):
        o, k = b * 144, b * 256
        prefetch(row, o + AHEAD)
        prefetch(row, o + AHEAD + 64)
        scales, minimums = k_scales(row, o + 4)
        xd = load_f32x8(d, b * 8)
        s = mul(scales, xd)
        w = load_i8x64(row, o + 16)
        part = scaled_dot(and_all(w, 15), q, k, pair(s, 0, 2), splat(np.float32(0)))
        part = scaled_dot(shr(w, 4), q, k + 64, pair(s, 1, 3), part)
        w = load_i8x64(row, o + 80)
        part = scaled_dot(and_all(w, 15), q, k + 128, pair(s, 4, 6), part)
        part = scaled_dot(shr(w, 4), q, k + 192, pair(s, 5, 7), part)
        acc = fma(part, splat(load_f16(row, o)), acc)
        low = fma(mul(minimums, mul(xd, sums32(sums, b * 16))), splat8(load_f16(row, o + 2)), low)
    return sum_lanes(acc) + sum_lanes(low)


@kernel()
def row_q5_k(row, q, d, sums, sums4):
    acc, low = splat(np.float32(0)), splat8(np.float32(0))
    for b in range(q.shape[0] // 256):
        o, k = b * 176, b * 256
        scales, minimums = k_scales(row, o + 4)
        xd = load_f32x8(d, b * 8)
        s = mul(scales, xd)
        h = load_i8x32(row, o + 16)
        part = splat(np.float32(0))
        w = or_(nibbles(load_i8x32(row, o + 48)), shl(and_all(join(h, shr(h, 1)), 1), 4))
        part = scaled_dot(w, q, k, spread(s, 0, 8), part)
        w = or_(nibbles(load_i8x32(row, o + 80)), shl(and_all(join(shr(h, 2), shr(h, 3)), 1), 4))
        part = scaled_dot(w, q, k + 64, spread(s, 1, 8), part)
        w = or_(nibbles(load_i8x32(row, o + 112)), shl(and_all(join(shr(h, 4), shr(h, 5)), 1), 4))
        part = scaled_dot(w, q, k + 128, spread(s, 2, 8), part)
        w = or_(nibbles(load_i8x32(row, o + 144)), shl(and_all(join(shr(h, 6), shr(h, 7)), 1), 4))
        part = scaled_dot(w, q, k + 192, spread(s, 3, 8), part)
        acc = fma(part, splat(load_f16(row, o)), acc)
        low = fma(mul(minimums, mul(xd, sums32(sums, b * 16))), splat8(load_f16(row, o + 2)), low)
    return sum_lanes(acc) + sum_lanes(low)


@kernel()
def row_q6_k(row, q, d, sums, sums4):
    acc = splat(np.float32(0))
    for b in range(q.shape[0] // 256):
        o, k = b * 210, b * 256
        prefetch(row, o + AHEAD)
        prefetch(row, o + AHEAD + 64)
        prefetch(row, o + AHEAD + 128)
        scales = mul(to_f32(load_i8x16(row, o + 192)), doubled(load_f32x8(d, b * 8)))  # one per 16 weights
        part = splat(np.float32(0))
        low, h = load_i8x64(row, o), load_i8x32(row, o + 128)
        w = or_(and_all(low, 15), shl(and_all(join(h, shr(h, 2)), 3), 4))
        dots = dot4(shl(load_i32x16(sums4, k // 4), 5), w, load_i8x64(q, k))
        part = fma(to_f32(dots), spread(scales, 0, 4), part)
        w = or_(shr(low, 4), shl(and_all(join(shr(h, 4), shr(h, 6)), 3), 4))
        dots = dot4(shl(load_i32x16(sums4, k // 4 + 16), 5), w, load_i8x64(q, k + 64))
        part = fma(to_f32(dots), spread(scales, 1, 4), part)
        low, h = load_i8x64(row, o + 64), load_i8x32(row, o + 160)
        w = or_(and_all(low, 15), shl(and_all(join(h, shr(h, 2)), 3), 4))
        dots = dot4(shl(load_i32x16(sums4, k // 4 + 32), 5), w, load_i8x64(q, k + 128))
        part = fma(to_f32(dots), spread(scales, 2, 4), part)
        w = or_(shr(low, 4), shl(and_all(join(shr(h, 4), shr(h, 6)), 3), 4))
        dots = dot4(shl(load_i32x16(sums4, k // 4 + 48), 5), w, load_i8x64(q, k + 192))
        part = fma(to_f32(dots), spread(scales, 3, 4), part)
        acc = fma(part, splat(load_f16(row, o + 208)), acc)
    return sum_lanes(acc)


@kernel()
def reorder_q4_0(q, sums4, out, start):
    """Of each 128 activations, the first halves of the four blocks of 32, then the second ones; and where a
    dot product over both begins: minus 8 times the sums of the eight activations of each lane."""
    for k in range(0, q.shape[0], 128):
        for i in range(4):
            store(out, k + 16 * i, load_i8x16(q, k + 32 * i))
            store(out, k + 64 + 16 * i, load_i8x16(q, k + 32 * i + 16))
            for j in range(4):
                at = k // 4 + 8 * i + j
                start[k // 8 + 4 * i + j] = 8 * (sums4[at] + sums4[at + 4])


@kernel()
def row_q4_0(row, q, d, start):
    """q and start as reorder_q4_0 leaves them: the nibbles of four blocks come in that order, and one scale
    serves the low and the high nibbles of a block."""
    acc = splat(np.float32(0))
    for b in range(q.shape[0] // 128):
        o, k = b * 72, b * 128
        prefetch(row, o + AHEAD)
        prefetch(row, o + AHEAD + 64)
        first = join(load_i8x16(row, o + 2), load_i8x16(row, o + 20))
        w = join(first, join(load_i8x16(row, o + 38), load_i8x16(row, o + 56)))
        dots = dot4(load_i32x16(start, b * 16), and_all(w, 15), load_i8x64(q, k))
        dots = dot4(dots, shr(w, 4), load_i8x64(q, k + 64))
        acc = fma(to_f32(dots), block_scales4(row, o, 18, d, 4 * b), acc)
    return sum_lanes(acc)


@kernel()
def row_q8_0(row, q, d, sums, sums4):
    acc = splat(np.float32(0))
    for b in range(q.shape[0] // 64):
        o, k = b * 68, b * 64
        prefetch(row, o + AHEAD)
        w = biased(join(load_i8x32(row, o + 2), load_i8x32(row, o + 36)))
        dots = dot4(bias_start(load_i32x16(sums4, b * 16)), w, load_i8x64(q, k))
        scales = block_scales(row, o, o + 34, d, 2 * b)
        acc = fma(to_f32(dots), scales, acc)
    return sum_lanes(acc)


@kernel()
def row_iq4_nl(row, q, d, sums, sums4):
    acc, levels = splat(np.float32(0)), load_i8x16(LEVELS, 0)
    for b in range(q.shape[0] // 64):
        o, k = b * 36, b * 64
        w = biased(look_up(levels, block_nibbles(load_i8x16(row, o + 2), load_i8x16(row, o + 20))))
        dots = dot4(bias_start(load_i32x16(sums4, b * 16)), w, load_i8x64(q, k))
        scales = block_scales(row, o, o + 18, d, 2 * b)
        acc = fma(to_f32(dots), scales, acc)
    return sum_lanes(acc)


@kernel()
def iq4_xs_scale(row, o, i):
    """Scale i of 8, less 32, of the block at byte o."""
    low = (np.int32(row[o + 4 + i // 2]) >> np.int32(4 * (i % 2))) & 15
    top = (np.int32(row[o + 2 + i // 4]) >> np.int32(2 * (i % 4))) & 3
    return np.float32((low | (top << 4)) - 32)


@kernel()
def row_iq4_xs(row, q, d, sums, sums4):
    acc, levels = splat(np.float32(0)), load_i8x16(LEVELS, 0)
    for b in range(q.shape[0] // 256):
        o, k = b * 136, b * 256
        part = splat(np.float32(0))
        for j in range(4):
            at = o + 8 + 32 * j
            w = biased(look_up(levels, block_nibbles(load_i8x16(row, at), load_i8x16(row, at + 16))))
            dots = dot4(bias_start(load_i32x16(sums4, k // 4 + 16 * j)), w, load_i8x64(q, k + 64 * j))
            first, second = iq4_xs_scale(row, o, 2 * j), iq4_xs_scale(row, o, 2 * j + 1)
            part = fma(to_f32(dots), halves(first * d[8 * b + 2 * j], second * d[8 * b + 2 * j + 1]), part)
        acc = fma(part, splat(load_f16(row, o)), acc)
    return sum_lanes(acc)


# Floats: the vector stays float32 [K].


@kernel()
def row_f32(row, x):
    acc = splat(np.float32(0))
    for k in range(0, x.shape[0], 16):
        acc = fma(load_f32x16(row, 4 * k), load_f32x16(x, k), acc)
    return sum_lanes(acc)


@kernel()
def row_f16(row, x):
    acc = splat(np.float32(0))
    for k in range(0, x.shape[0], 16):
        acc = fma(to_f32(load_f16x16(row, 2 * k)), load_f32x16(x, k), acc)
    return sum_lanes(acc)


@kernel()
def row_bf16(row, x):
    acc = splat(np.float32(0))
    for k in range(0, x.shape[0], 16):
        acc = fma(load_bf16x16(row, 2 * k), load_f32x16(x, k), acc)
    return sum_lanes(acc)
