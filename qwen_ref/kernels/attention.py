"""Attention over a cache of keys and values, with the online softmax (https://arxiv.org/abs/1805.02867).

Keys lie transposed in groups of 16, in float16 [H_kv, S/16, D, 16]: a vector holds one dimension of 16 keys,
so 16 scores grow in 16 lanes and no sum across lanes is needed. Values lie as they are, [H_kv, S/16, 16, D].
Both rooms begin as zeros, so that the unused rest of a group is harmless; S is a multiple of 32.

In 8 and 4 bits (qwen_ref/model/cache_types.py) a group has, for each 32 dimensions, the 16 tokens' scales in
float16 and then what they scale, in the same orders: [H_kv, S/16, D/32, 16 * bytes of a block]. They become
the same floats for one token and for many: scale times integer, which float32 holds exactly. Queries are
rotated as keys are, outputs as values are, which turns them back.

Keys come in pieces of PIECE. The softmax of a piece is made at once, and what the pieces give is put together
in their order. All that is added for a token is added in one order, whatever stands beside it: its output has
the same bits within a prompt, among drafts, or alone, with any number of threads. A key that it does not see
adds an exact zero.

Four query heads of one KV head go together; all official sizes have just four (if there are fewer, the last
is repeated, which costs time and nothing else). The four of one or two tokens are a pack, and a piece, as
floats, is the tiles that it meets: both products are those of matmul_float.py. TOGETHER tokens meet a tile
while it lies in the nearest cache. A single token takes the cache's numbers as they come.
"""

from __future__ import annotations

import math

import numpy as np
from numba import int8, prange, uint16

from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.elementwise import norm_and_rotate
from qwen_ref.kernels.matmul_float import ROWS, TOKENS, add_block
from qwen_ref.kernels.simd import (
    absolute,
    add,
    alternate,
    bits_of,
    butterfly,
    div,
    each,
    exp,
    fma,
    join,
    load_f16x16,
    load_f32x16,
    load_i8x16,
    local,
    max_lanes,
    maximum,
    mul,
    nibbles,
    no_sums,
    prefetch,
    round_i8,
    splat,
    store,
    store_apart,
    sub,
    sum_lanes,
    to_f16,
    to_f32,
)  # fmt: skip

GROUP = 4  # query heads that go together
PIECE = 256  # keys whose softmax is made at once
TOGETHER = 32  # tokens that meet a tile of keys or values together
TASKS = 32  # that are shared out at least: of few tokens, several pieces at once


@kernel()
def head_dim(keys):
    """Of keys [H_kv, S/16, …]."""
    return keys.shape[2] if bits_of(keys) == 16 else 32 * keys.shape[2]


@kernel()
def rotate(x, at, size):
    """x[at : at + size] times a normalized Hadamard matrix, in the order of additions of its NumPy twin."""
    block = size & -size
    for i in range(at, at + size, 16):
        v = butterfly(butterfly(butterfly(butterfly(load_f32x16(x, i), 1), 2), 4), 8)
        store(x, i, v)
    half = 16
    while half < block:
        for start in range(at, at + size, 2 * half):
            for i in range(start, start + half, 16):
                a, b = load_f32x16(x, i), load_f32x16(x, i + half)
                store(x, i, add(a, b))
                store(x, i + half, sub(a, b))
        half *= 2
    scale = splat(np.float32(1 / math.sqrt(block)))
    for i in range(at, at + size, 16):
        store(x, i, mul(load_f32x16(x, i), scale))


@kernel()
def put_block(x, at, room, slot, is_key):
    """x[at : at + 32] becomes the block of token `slot` of 16 in a room [16 * bytes of a block], in the
    roundings of gguf_io/quants.py."""
    halves, codes, bits = local(16, uint16), local(32, int8), bits_of(room)
    low, high = load_f32x16(x, at), load_f32x16(x, at + 16)
    largest = max_lanes(maximum(absolute(low), absolute(high)))
    d = div(splat(largest), splat(np.float32(127)))
    if bits == 4:
        for i in range(at, at + 32):
            if abs(x[i]) == largest:
                d = div(splat(x[i]), splat(np.float32(-8)))
                break
    inverse = div(splat(np.float32(1)), d) if largest > 0 else d
    store(codes, 0, join(round_i8(mul(low, inverse)), round_i8(mul(high, inverse))))
    store(halves, 0, to_f16(d))
    room[2 * slot], room[2 * slot + 1] = halves[0] & 255, halves[0] >> 8
    count = 4 * bits  # bytes
    first, step = (32 + slot, 16) if is_key else (32 + count * slot, 1)
    for i in range(count):
        if bits == 8:
            room[first + i * step] = codes[i]
        else:
            low_code, high_code = min(codes[i] + 8, 15), min(codes[i + 16] + 8, 15)
            room[first + i * step] = low_code | high_code << 4


@kernel(parallel=True)
def append(q_and_gate, k, v, q_norm, k_norm, eps, cos, sin, keys, values, start, q_out):
    """Normalize and turn queries and keys; keys and values go to the cache at `start`.

    q_and_gate [T, H*2D], k and v [T, H_kv*D], cos and sin [T, R/2] -> q_out [T, H*D], scaled by 1 / sqrt(D).
    """
    size = q_norm.shape[0]
    heads, kv_heads = q_out.shape[1] // size, keys.shape[0]
    for t in prange(q_out.shape[0]):
        scale = np.float32(1 / math.sqrt(size))
        for h in range(heads):
            norm_and_rotate(q_and_gate[t], 2 * h * size, q_out[t], h * size, q_norm, eps, cos[t], sin[t])
        for i in range(heads * size):
            q_out[t, i] *= scale
        turned = np.empty(size, np.float32)
        halves = np.empty(size, np.uint16)
        group, slot = (start + t) // 16, (start + t) % 16
        if bits_of(keys) < 16:
            for h in range(heads):
                rotate(q_out[t], h * size, size)
        for h in range(kv_heads):
            norm_and_rotate(k[t], h * size, turned, 0, k_norm, eps, cos[t], sin[t])
            if bits_of(keys) == 16:
                for i in range(0, size, 16):
                    store(halves, i, to_f16(load_f32x16(turned, i)))
                room = keys[h, group]
                for i in range(size):
                    room[i, slot] = halves[i]
            else:
                rotate(turned, 0, size)
                for i in range(0, size, 32):
                    put_block(turned, i, keys[h, group, i // 32], slot, True)
            if bits_of(values) == 16:
                for i in range(0, size, 16):
                    store(values[h, group, slot], i, to_f16(load_f32x16(v[t], h * size + i)))
            else:
                for i in range(size):
                    turned[i] = v[t, h * size + i]
                rotate(turned, 0, size)
                for i in range(0, size, 32):
                    put_block(turned, i, values[h, group, i // 32], slot, False)


@kernel()
def query_head(quad, g, heads, kv_heads):
    """The head that is query g of a quad; each KV head has the same number of quads."""
    group = heads // kv_heads
    quads = (group + GROUP - 1) // GROUP
    return quad // quads * group + min(quad % quads * GROUP + g, group - 1)


@kernel()
def softmax_row(scores, count, stop, state):
    """The first `count` scores become exp(score - highest), the rest up to `stop`, a multiple of 16, zero;
    state [2] is the highest and the sum."""
    for s in range(count, stop):
        scores[s] = -np.inf
    best = splat(np.float32(-np.inf))
    for s in range(0, stop, 16):
        best = maximum(best, load_f32x16(scores, s))
    state[0] = max_lanes(best)
    highest, total = splat(state[0]), splat(np.float32(0))
    for s in range(0, stop, 16):
        p = exp(sub(load_f32x16(scores, s), highest))
        store(scores, s, p)
        total = add(total, p)
    state[1] = sum_lanes(total)


@kernel()
def pack_wide(rows, t, stop, pack):
    """rows[t : t + 8, :stop] -> pack [stop, 8]."""
    for s in range(0, stop, 16):
        a, b = load_f32x16(rows[t], s), load_f32x16(rows[t + 1], s)
        c, d = load_f32x16(rows[t + 2], s), load_f32x16(rows[t + 3], s)
        e, f = load_f32x16(rows[t + 4], s), load_f32x16(rows[t + 5], s)
        g, h = load_f32x16(rows[t + 6], s), load_f32x16(rows[t + 7], s)
        even = alternate(alternate(a, e), alternate(c, g))
        odd = alternate(alternate(b, f), alternate(d, h))
        store(pack, 8 * s, alternate(even, odd))


@kernel()
def pack_narrow(rows, t, stop, pack):
    """rows[t : t + 4, :stop] -> pack [stop, 4]."""
    for s in range(0, stop, 16):
        a, b = load_f32x16(rows[t], s), load_f32x16(rows[t + 1], s)
        c, d = load_f32x16(rows[t + 2], s), load_f32x16(rows[t + 3], s)
        store(pack, 4 * s, alternate(alternate(a, c), alternate(b, d)))


pack_weights = pack_wide if TOKENS == 8 else pack_narrow


@kernel(forceinline=True)
def codes(room, bytes_at, nibbles_at, high):
    """16 of a room's integers as floats: bytes from `bytes_at` on, or the low or high four bits of those from
    `nibbles_at` on."""
    if bits_of(room) == 8:
        return to_f32(load_i8x16(room, bytes_at))
    return nibbles(load_i8x16(room, nibbles_at), high)


@kernel()
def fill_keys(keys, first, size, tile):
    """Keys `first` to first + ROWS as a tile [D * ROWS]."""
    for n in range(0, ROWS, 16):
        lanes = keys[(first + n) // 16]
        if bits_of(keys) == 16:
            for i in range(size):
                store(tile, i * ROWS + n, to_f32(load_f16x16(lanes, i * 16)))
        else:
            for b in range(size // 32):
                scales, at = to_f32(load_f16x16(lanes[b], 0)), 32 * b * ROWS + n
                for high in range(2):
                    for i in range(16):
                        x = codes(lanes[b], 32 + 16 * (16 * high + i), 32 + 16 * i, high)
                        store(tile, at + (16 * high + i) * ROWS, mul(x, scales))


@kernel()
def value_scales(values, first, count, b, scales):
    """Of block b of `count` values from `first` on, a multiple of 16, as floats."""
    for s in range(0, count, 16):
        store(scales, s, to_f32(load_f16x16(values[(first + s) // 16, b], 0)))


@kernel()
def fill_values(values, first, count, start, stop, scales, tile):
    """Dimensions start to stop, ROWS or less, of `count` values as a tile [count * ROWS]."""
    for i in range(start, stop, 16):
        if bits_of(values) < 16:
            value_scales(values, first, count, i // 32, scales)
        for s in range(count):
            group, n = (first + s) // 16, (first + s) % 16
            if bits_of(values) == 16:
                x = to_f32(load_f16x16(values[group, n], i))
            else:
                high = i // 16 % 2
                x = codes(values[group, i // 32], 32 + 32 * n + 16 * high, 32 + 16 * n, high)
                x = mul(x, splat(scales[s]))
            store(tile, s * ROWS + i - start, x)


@kernel()
def ask_for_values(values, first, count):
    """Of whole groups."""
    for g in range(first // 16, (first + count + 15) // 16):
        room = values[g]
        for i in range(0, room.size, 64 // values.itemsize):
            prefetch(room, i)


@kernel()
def attend_tiles(packs, seen, count, keys, values, first, size, out, state):
    """Packs of queries [P, D * TOKENS] over `count` keys of a piece, from `first` on; the first token sees
    `seen` of them and each further one more -> out [P * TOKENS, D'], not yet divided, and state [P * TOKENS,
    2], the highest score and the sum of the exponentials. Rows of tokens that see none are nonsense."""
    queries = packs.shape[0] * TOKENS
    stop = (count + ROWS - 1) // ROWS * ROWS
    scores = np.zeros((queries, PIECE), np.float32)
    weights = np.empty((packs.shape[0], PIECE * TOKENS), np.float32)
    tile, scales = np.empty(ROWS * max(size, PIECE), np.float32), np.empty(PIECE, np.float32)
    out[:queries] = 0
    for s in range(0, stop, ROWS):
        fill_keys(keys, first + s, size, tile)
        ask_for_values(values, first + s, ROWS)
        for p in range(packs.shape[0]):
            add_block(tile, packs[p], 0, size, scores, p * TOKENS, s)
    for p in range(packs.shape[0]):
        for n in range(p * TOKENS, (p + 1) * TOKENS):
            softmax_row(scores[n], max(0, min(count, seen + n // GROUP)), stop, state[n])
        pack_weights(scores, p * TOKENS, stop, weights[p])
    for i in range(0, size, ROWS):
        fill_values(values, first, count, i, min(i + ROWS, size), scales, tile)
        for p in range(packs.shape[0]):
            add_block(tile, weights[p], 0, count, out, p * TOKENS, i)


@kernel()
def attend_alone(pack, count, keys, values, first, size, out, state):
    """The same for one token, the first GROUP queries of a pack."""
    scores, scales = np.empty((GROUP, PIECE), np.float32), np.empty(PIECE, np.float32)
    for s in range(0, count, 16):
        lanes = keys[(first + s) // 16]
        ask_for_values(values, first + s, 16)
        sums = no_sums(4)
        if bits_of(keys) == 16:
            for i in range(size):
                sums = fma(to_f32(load_f16x16(lanes, i * 16)), each(pack, i * TOKENS, 1, sums), sums)
        else:
            for b in range(size // 32):
                d = to_f32(load_f16x16(lanes[b], 0))
                for high in range(2):
                    for i in range(16):
                        k = mul(codes(lanes[b], 32 + 16 * (16 * high + i), 32 + 16 * i, high), d)
                        sums = fma(k, each(pack, (32 * b + 16 * high + i) * TOKENS, 1, sums), sums)
        store_apart(scores, s, PIECE, sums)
    for g in range(GROUP):
        softmax_row(scores[g], count, (count + 15) // 16 * 16, state[g])
    if bits_of(values) == 16:
        for i in range(0, size, 16):
            sums = no_sums(4)
            for s in range(count):
                v = to_f32(load_f16x16(values[(first + s) // 16, s % 16], i))
                sums = fma(v, each(scores, s, PIECE, sums), sums)
            store_apart(out, i, out.shape[1], sums)
    else:
        for b in range(size // 32):
            value_scales(values, first, count, b, scales)
            low = high = no_sums(4)
            for s in range(count):
                room, n = values[(first + s) // 16, b], s % 16
                p, d = each(scores, s, PIECE, low), splat(scales[s])
                low = fma(mul(codes(room, 32 + 32 * n, 32 + 16 * n, 0), d), p, low)
                high = fma(mul(codes(room, 48 + 32 * n, 32 + 16 * n, 1), d), p, high)
            store_apart(out, 32 * b, out.shape[1], low)
            store_apart(out, 32 * b + 16, out.shape[1], high)


@kernel()
def merge(out, state, y, y_state):
    """A piece's output and state go into those of the pieces before, y [D] and y_state [2]."""
    highest = max(y_state[0], state[0])
    old, new = exp(splat(y_state[0] - highest)), exp(splat(state[0] - highest))
    y_state[0] = highest
    y_state[1] = max_lanes(fma(splat(state[1]), new, mul(splat(y_state[1]), old)))
    for i in range(0, y.shape[0], 16):
        store(y, i, fma(load_f32x16(out, i), new, mul(load_f32x16(y, i), old)))


@kernel()
def merge_pieces(outs, states, first, seen, turned, y, y_state):
    """The outputs of pieces from number `first` on, [P, D'] and [P, 2], of a token that sees `seen` keys; in
    the end turned back if values are `turned`."""
    last = (seen - 1) // PIECE - first
    for piece in range(min(last + 1, outs.shape[0])):
        if first + piece == 0:
            y[:], y_state[:] = outs[0, : y.shape[0]], states[0]
        else:
            merge(outs[piece], states[piece], y, y_state)
    if 0 <= last < outs.shape[0]:
        for i in range(0, y.shape[0], 16):
            store(y, i, mul(load_f32x16(y, i), splat(1 / y_state[1])))
        if turned:
            rotate(y, 0, y.shape[0])


@kernel()
def merge_heads(outs, states, first, quad, t, start, turned, y, y_states, kv_heads):
    """The same for the heads of a quad."""
    heads = y_states.shape[1]
    size = y.shape[1] // heads
    head = query_head(quad, 0, heads, kv_heads)
    for g in range(query_head(quad, GROUP - 1, heads, kv_heads) + 1 - head):
        row, out = t * GROUP + g, y[t, (head + g) * size : (head + g + 1) * size]
        some, of_some = outs[:, quad, row], states[:, quad, row]
        merge_pieces(some, of_some, first, start + t + 1, turned, out, y_states[t, head + g])


@kernel(parallel=True)
def attend(q, keys, values, start, y):
    """q [T, H*D] of tokens at `start` -> y [T, H*D]: each token sees itself and what came before."""
    T, size, kv_heads, turned = q.shape[0], head_dim(keys), keys.shape[0], bits_of(values) < 16
    heads = q.shape[1] // size
    quads = (heads // kv_heads + GROUP - 1) // GROUP * kv_heads
    tokens = TOKENS // GROUP  # of a pack
    packs = np.empty((quads, (T + tokens - 1) // tokens, size * TOKENS), np.float32)
    for task in prange(quads * packs.shape[1]):
        quad, p = task // packs.shape[1], task % packs.shape[1]
        for g in range(TOKENS):
            t, at = min(p * tokens + g // GROUP, T - 1), query_head(quad, g % GROUP, heads, kv_heads) * size
            for i in range(size):
                packs[quad, p, i * TOKENS + g] = q[t, at + i]

    groups, pieces = (T + TOGETHER - 1) // TOGETHER, (start + T + PIECE - 1) // PIECE
    at_once = max(1, min(pieces, TASKS // (quads * groups)))  # pieces
    rows, width = packs.shape[1] * TOKENS, (size + ROWS - 1) // ROWS * ROWS
    outs = np.empty((at_once, quads, rows, width), np.float32)
    states, y_states = np.empty((at_once, quads, rows, 2), np.float32), np.empty((T, heads, 2), np.float32)
    for first in range(0, pieces, at_once):
        for task in prange(at_once * quads * groups):
            piece, quad, t0 = task // (quads * groups), task // groups % quads, task % groups * TOGETHER
            t1, key, kv = min(t0 + TOGETHER, T), (first + piece) * PIECE, quad * kv_heads // quads
            count = min(PIECE, start + t1 - key)
            if count > 0:
                k, v, p1 = keys[kv], values[kv], (t1 + tokens - 1) // tokens
                out, state = outs[piece, quad, t0 * GROUP :], states[piece, quad, t0 * GROUP :]
                if T == 1:
                    attend_alone(packs[quad, 0], count, k, v, key, size, out, state)
                else:
                    some, seen = packs[quad, t0 // tokens : p1], start + t0 + 1 - key
                    attend_tiles(some, seen, count, k, v, key, size, out, state)
                if at_once == 1:  # while they lie in the cache
                    for t in range(t0, t1):
                        merge_heads(outs, states, first, quad, t, start, turned, y, y_states, kv_heads)
        if at_once > 1:
            for task in prange(T * quads):
                quad, t = task % quads, task // quads
                merge_heads(outs, states, first, quad, t, start, turned, y, y_states, kv_heads)
