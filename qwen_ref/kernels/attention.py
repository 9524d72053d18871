"""Attention over a float16 cache, with the online softmax (https://arxiv.org/abs/1805.02867).

Keys lie transposed in groups of 16, [H_kv, S/16, D, 16]: a vector holds one dimension of 16 keys, so 16
scores grow in 16 lanes and no sum across lanes is needed. Values lie as they are, [H_kv, S, D]. Both rooms
begin as zeros, so that the unused rest of a group is harmless.

Four query heads of one KV head go together; all official sizes have just four (if there are fewer, the last
is repeated, which costs time and nothing else). The keys of a decoding step are shared out in pieces of PIECE
whatever the number of threads, so that results do not depend on it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from qwen_ref.kernels.compile import kernel
from qwen_ref.kernels.elementwise import norm_and_rotate
from qwen_ref.kernels.simd import (
    exp,
    fma,
    load_f16x16,
    load_f32x16,
    max_lanes,
    maximum,
    mul,
    splat,
    store,
    sub,
    sum_lanes,
    to_f16,
    to_f32,
)  # fmt: skip

GROUP = 4  # queries that are attended to together
BLOCK = 64  # keys between two updates of the running maximum
PIECE = 512  # keys of one task of a decoding step


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
def attend(q, t, head0, head1, head2, head3, keys, values, first, last, out, state):
    """Four query heads of token t, which share a KV head, over keys first to last: out [4, D] not yet
    divided, state [2, 4] the maximum of the scores and the sum of their exponentials."""
    size = values.shape[1]
    scores = np.empty((GROUP, BLOCK), np.float32)
    for g in range(GROUP):
        state[0, g], state[1, g] = -np.inf, 0
        for i in range(0, size, 16):
            store(out[g], i, splat(np.float32(0)))
    at0, at1, at2, at3 = head0 * size, head1 * size, head2 * size, head3 * size
    for block in range(first, last, BLOCK):
        count = min(BLOCK, last - block)
        groups = (count + 15) // 16
        for n in range(groups):
            k = keys[block // 16 + n]
            a0 = a1 = a2 = a3 = splat(np.float32(0))
            for i in range(size):
                lane = to_f32(load_f16x16(k, i * 16))
                a0 = fma(lane, splat(q[t, at0 + i]), a0)
                a1 = fma(lane, splat(q[t, at1 + i]), a1)
                a2 = fma(lane, splat(q[t, at2 + i]), a2)
                a3 = fma(lane, splat(q[t, at3 + i]), a3)
            store(scores[0], n * 16, a0)
            store(scores[1], n * 16, a1)
            store(scores[2], n * 16, a2)
            store(scores[3], n * 16, a3)
        for g in range(GROUP):
            for s in range(count, groups * 16):
                scores[g, s] = -np.inf
            best = splat(state[0, g])
            for s in range(0, groups * 16, 16):
                best = maximum(best, load_f32x16(scores[g], s))
            highest = max_lanes(best)
            rescale = np.float32(math.exp(state[0, g] - highest))
            total = splat(np.float32(0))
            for s in range(0, groups * 16, 16):
                p = exp(sub(load_f32x16(scores[g], s), splat(highest)))
                store(scores[g], s, p)
                total = fma(p, splat(np.float32(1)), total)
            state[0, g], state[1, g] = highest, state[1, g] * rescale + sum_lanes(total)
            if rescale != 1:
                for i in range(0, size, 16):
                    store(out[g], i, mul(load_f32x16(out[g], i), splat(rescale)))
        for i in range(0, size, 16):
            o0, o1 = load_f32x16(out[0], i), load_f32x16(out[1], i)
            o2, o3 = load_f32x16(out[2], i), load_f32x16(out[3], i)
            for s in range(count):
                v = to_f32(load_f16x16(values[block + s], i))
                o0, o1 = fma(v, splat(scores[0, s]), o0), fma(v, splat(scores[1, s]), o1)
                o2, o3 = fma(v, splat(scores[2, s]), o2), fma(v, splat(scores[3, s]), o3)
            store(out[0], i, o0)
            store(out[1], i, o1)
            store(out[2], i, o2)
            store(out[3], i, o3)


@kernel(parallel=True)
def attend_many(q, keys, values, start, y):
    """q [T, H*D] of tokens at `start` -> y [T, H*D]: each token sees itself and what came before."""
    T, size, kv_heads = q.shape[0], values.shape[2], keys.shape[0]
    heads = q.shape[1] // size
    quads = (heads // kv_heads + GROUP - 1) // GROUP * kv_heads
    for task in prange(T * quads):
        t, quad = T - 1 - task // quads, task % quads
        kv = quad * kv_heads // quads
        out, state = np.empty((GROUP, size), np.float32), np.empty((2, GROUP), np.float32)
        h0, h1 = query_head(quad, 0, heads, kv_heads), query_head(quad, 1, heads, kv_heads)
        h2, h3 = query_head(quad, 2, heads, kv_heads), query_head(quad, 3, heads, kv_heads)
        attend(q, t, h0, h1, h2, h3, keys[kv], values[kv], 0, start + t + 1, out, state)
        for g in range(GROUP):
            at, scale = query_head(quad, g, heads, kv_heads) * size, splat(1 / state[1, g])
            for i in range(0, size, 16):
                store(y[t], at + i, mul(load_f32x16(out[g], i), scale))


@kernel(parallel=True)
def attend_one(q, keys, values, start, y):
    """The same for one token, q [1, H*D], in pieces of PIECE keys that are put together at the end."""
    size, kv_heads = values.shape[2], keys.shape[0]
    heads = q.shape[1] // size
    quads = (heads // kv_heads + GROUP - 1) // GROUP * kv_heads
    pieces = (start + PIECE) // PIECE
    outs = np.empty((quads, pieces, GROUP, size), np.float32)
    states = np.empty((quads, pieces, 2, GROUP), np.float32)
    for task in prange(quads * pieces):
        quad, piece = task // pieces, task % pieces
        kv = quad * kv_heads // quads
        last = min(start + 1, (piece + 1) * PIECE)
        out, state = outs[quad, piece], states[quad, piece]
        h0, h1 = query_head(quad, 0, heads, kv_heads), query_head(quad, 1, heads, kv_heads)
        h2, h3 = query_head(quad, 2, heads, kv_heads), query_head(quad, 3, heads, kv_heads)
        attend(q, 0, h0, h1, h2, h3, keys[kv], values[kv], piece * PIECE, last, out, state)
    for quad in range(quads):
        for g in range(GROUP):
            highest = states[quad, 0, 0, g]
            for piece in range(1, pieces):
                highest = max(highest, states[quad, piece, 0, g])
            total = np.float32(0)
            for piece in range(pieces):
                total += states[quad, piece, 1, g] * np.float32(math.exp(states[quad, piece, 0, g] - highest))
            for i in range(0, size, 16):
                acc = splat(np.float32(0))
                for piece in range(pieces):
                    weight = np.float32(math.exp(states[quad, piece, 0, g] - highest)) / total
                    acc = fma(load_f32x16(outs[quad, piece, g], i), splat(weight), acc)
                store(y[0], query_head(quad, g, heads, kv_heads) * size + i, acc)
