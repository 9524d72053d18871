"""Attention over a float16 cache, with the online softmax (https://arxiv.org/abs/1805.02867).

Keys lie transposed in groups of 16, [H_kv, S/16, D, 16]: a vector holds one dimension of 16 keys, so 16
scores grow in 16 lanes and no sum across lanes is needed. Values lie as they are, [H_kv, S, D]. Both rooms
begin as zeros, so that the unused rest of a group is harmless; S is a multiple of 32.

Keys come in pieces of PIECE. The softmax of a piece is made at once, and what the pieces give is put together
in their order. All that is added for a token is added in one order, whatever stands beside it: its output has
the same bits within a prompt, among drafts, or alone, with any number of threads. A key that it does not see
adds an exact zero.

Four query heads of one KV head go together; all official sizes have just four (if there are fewer, the last
is repeated, which costs time and nothing else). The four of one or two tokens are a pack, and a piece, as
floats, is the tiles that it meets: both products are those of matmul_float.py. TOGETHER tokens meet a tile
while it lies in the nearest cache. A single token takes the cache's float16 as they come.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.elementwise import norm_and_rotate
from qwen_ref.kernels.matmul_float import ROWS, TOKENS, add_block
from qwen_ref.kernels.simd import (
    add,
    alternate,
    exp,
    fma,
    load_f16x16,
    load_f32x16,
    max_lanes,
    maximum,
    mul,
    prefetch,
    splat,
    store,
    sub,
    sum_lanes,
    to_f16,
    to_f32,
)  # fmt: skip

GROUP = 4  # query heads that go together
PIECE = 256  # keys whose softmax is made at once
TOGETHER = 32  # tokens that meet a tile of keys or values together
TASKS = 32  # that are shared out at least: of few tokens, several pieces at once


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
        s = start + t
        for h in range(kv_heads):
            norm_and_rotate(k[t], h * size, turned, 0, k_norm, eps, cos[t], sin[t])
            for i in range(0, size, 16):
                store(halves, i, to_f16(load_f32x16(turned, i)))
                store(values[h, s], i, to_f16(load_f32x16(v[t], h * size + i)))
            room = keys[h, s // 16]
            for i in range(size):
                room[i, s % 16] = halves[i]


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


@kernel()
def attend_tiles(packs, seen, count, keys, values, first, out, state):
    """Packs of queries [P, D * TOKENS] over `count` keys of a piece, from `first` on; the first token sees
    `seen` of them and each further one more -> out [P * TOKENS, D'], not yet divided, and state [P * TOKENS,
    2], the highest score and the sum of the exponentials. Rows of tokens that see none are nonsense."""
    size, queries = values.shape[1], packs.shape[0] * TOKENS
    stop = (count + ROWS - 1) // ROWS * ROWS
    scores = np.zeros((queries, PIECE), np.float32)
    weights = np.empty((packs.shape[0], PIECE * TOKENS), np.float32)
    tile = np.empty(ROWS * max(size, PIECE), np.float32)
    out[:queries] = 0
    for s in range(0, stop, ROWS):
        for i in range(size):
            for n in range(0, ROWS, 16):
                store(tile, i * ROWS + n, to_f32(load_f16x16(keys[(first + s + n) // 16], i * 16)))
        for n in range(ROWS):
            for i in range(0, size, 32):
                prefetch(values[first + s + n], i)
        for p in range(packs.shape[0]):
            add_block(tile, packs[p], 0, size, scores, p * TOKENS, s)
    for p in range(packs.shape[0]):
        for n in range(p * TOKENS, (p + 1) * TOKENS):
            softmax_row(scores[n], max(0, min(count, seen + n // GROUP)), stop, state[n])
        pack_weights(scores, p * TOKENS, stop, weights[p])
    for i in range(0, size, ROWS):
        for s in range(count):
            for n in range(0, min(ROWS, size - i), 16):
                store(tile, s * ROWS + n, to_f32(load_f16x16(values[first + s], i + n)))
        for p in range(packs.shape[0]):
            add_block(tile, weights[p], 0, count, out, p * TOKENS, i)


@kernel()
def attend_alone(pack, count, keys, values, first, out, state):
    """The same for one token, the first GROUP queries of a pack."""
    size = values.shape[1]
    scores = np.empty((GROUP, PIECE), np.float32)
    for s in range(0, count, 16):
        lanes = keys[(first + s) // 16]
        for n in range(s, min(s + 16, count)):
            for i in range(0, size, 32):
                prefetch(values[first + n], i)
        a0 = a1 = a2 = a3 = splat(np.float32(0))
        for i in range(size):
            k, at = to_f32(load_f16x16(lanes, i * 16)), i * TOKENS
            a0, a1 = fma(k, splat(pack[at]), a0), fma(k, splat(pack[at + 1]), a1)
            a2, a3 = fma(k, splat(pack[at + 2]), a2), fma(k, splat(pack[at + 3]), a3)
        store(scores[0], s, a0)
        store(scores[1], s, a1)
        store(scores[2], s, a2)
        store(scores[3], s, a3)
    for g in range(GROUP):
        softmax_row(scores[g], count, (count + 15) // 16 * 16, state[g])
    for i in range(0, size, 16):
        o0 = o1 = o2 = o3 = splat(np.float32(0))
        for s in range(count):
            v = to_f32(load_f16x16(values[first + s], i))
            o0, o1 = fma(v, splat(scores[0, s]), o0), fma(v, splat(scores[1, s]), o1)
            o2, o3 = fma(v, splat(scores[2, s]), o2), fma(v, splat(scores[3, s]), o3)
        store(out[0], i, o0)
        store(out[1], i, o1)
        store(out[2], i, o2)
        store(out[3], i, o3)


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
def merge_pieces(outs, states, first, seen, y, y_state):
    """The outputs of pieces from number `first` on, [P, D'] and [P, 2], of a token that sees `seen` keys."""
    last = (seen - 1) // PIECE - first
    for piece in range(min(last + 1, outs.shape[0])):
        if first + piece == 0:
            y[:], y_state[:] = outs[0, : y.shape[0]], states[0]
        else:
            merge(outs[piece], states[piece], y, y_state)
    if 0 <= last < outs.shape[0]:
        for i in range(0, y.shape[0], 16):
            store(y, i, mul(load_f32x16(y, i), splat(1 / y_state[1])))


@kernel()
def merge_heads(outs, states, first, quad, t, start, y, y_states, kv_heads):
    """The same for the heads of a quad."""
    heads = y_states.shape[1]
    size = y.shape[1] // heads
    head = query_head(quad, 0, heads, kv_heads)
    for g in range(query_head(quad, GROUP - 1, heads, kv_heads) + 1 - head):
        row, out = t * GROUP + g, y[t, (head + g) * size : (head + g + 1) * size]
        merge_pieces(
            outs[:, quad, row], states[:, quad, row], first, start + t + 1, out, y_states[t, head + g]
        )


@kernel(parallel=True)
def attend(q, keys, values, start, y):
    """q [T, H*D] of tokens at `start` -> y [T, H*D]: each token sees itself and what came before."""
    T, size, kv_heads = q.shape[0], values.shape[2], keys.shape[0]
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
                    attend_alone(packs[quad, 0], count, k, v, key, out, state)
                else:
                    some, seen = packs[quad, t0 // tokens : p1], start + t0 + 1 - key
                    attend_tiles(some, seen, count, k, v, key, out, state)
                if at_once == 1:  # while they lie in the cache
                    for t in range(t0, t1):
                        merge_heads(outs, states, first, quad, t, start, y, y_states, kv_heads)
        if at_once > 1:
            for task in prange(T * quads):
                merge_heads(outs, states, first, task % quads, task // quads, start, y, y_states, kv_heads)
