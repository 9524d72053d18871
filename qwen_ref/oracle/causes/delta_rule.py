"""The delta rule, computed anew for as many tokens from the first on as the golden keeps without a gap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qwen_ref.model.deltanet import CHUNK
from qwen_ref.oracle.arithmetic import to_bfloat16
from qwen_ref.oracle.causes.cause import FIRST, MANY, Array, Cause, Place, TooLittle, tiled_order, without_gap

TINY = np.finfo(float).tiny
ROUNDED = 2e-7  # the share of its size that a value in float32 may be off: below that nothing leaps
LEAP = (
    5  # times the error before: what grows from token to token, as other mistakes make it, does not so fast
)
O, STATE = "linear_attn.o", "linear_attn.state"  # noqa: E741
MISTAKES = {
    "no erase": "does not subtract what the state holds for the key: u = beta (v - S^T k)",
    "no beta": "has no beta: u = beta (v - S^T k)",
    "no decay": "has no decay: S = exp(g) S",
    "late decay": "reads what the state holds for the key before the decay, which comes first",
    "decay last": "decays the state after the write; that comes first",
    "early output": "gives what the state holds before the token is written into it",
    "rounded": "rounds its state to bfloat16 at every token",
}


def rule(
    mistake: str = "", heads: Callable[[int, int], Array] = lambda H_k, H_v: np.arange(H_v) // (H_v // H_k)
) -> Callable[[Place], Array]:
    """`heads`: which K head each V head reads."""

    def makes(p: Place) -> Array:
        q, k, v, g, beta = inputs(p)
        read = heads(q.shape[1], v.shape[1])
        return result(p, *delta_rule(q[:, read], k[:, read], v, g, beta, mistake))

    return makes


def inputs(p: Place) -> list[Array]:
    """q and k [T, H_k, K], v [T, H_v, V] with NaN in columns that are not kept, g and beta [T, H_v]."""
    T, config = len(p.golden.inputs["token_ids"]), p.config
    q, k, g, beta = p.first(FIRST if p.kind == O else T, "q_norm", "k_norm", "g", "beta")
    name = p.beside("conv1d")
    if (entry := p.golden.entries.get(name)) is None:
        raise TooLittle
    count = min(len(q), without_gap(entry))
    if p.kind == STATE and count < T:
        raise TooLittle
    conv = np.full((count, config.conv_channels), np.nan)
    conv[:, :: entry.stride] = p.golden.values[name][:count]  # each of v's columns goes its own way
    v = conv[:, 2 * config.key_dim :].reshape(count, config.linear_num_value_heads, -1)
    return [q[:count] / np.sqrt(q.shape[-1]), k[:count], v, g[:count], beta[:count]]


def result(p: Place, o: Array, state: Array) -> Array:
    """Of what the golden keeps."""
    if p.kind == STATE:
        return state.reshape(len(state), -1)[p.entry.rows, :: p.entry.stride]
    return p.at_first(o).reshape(len(p.rows), -1)[:, :: p.entry.stride]


def other_order(p: Place) -> Array | None:
    config = p.config
    if config.linear_num_key_heads == config.linear_num_value_heads:
        return None
    q, k, v, g, beta = inputs(p)
    read, tiled = np.arange(v.shape[1]) // (v.shape[1] // q.shape[1]), tiled_order(config)
    return result(p, *delta_rule(q[:, read], k[:, read], v, g[:, tiled], beta[:, tiled]))


def delta_rule(q: Array, k: Array, v: Array, g: Array, beta: Array, mistake: str = "") -> tuple[Array, Array]:
    """q, k [T, H, K], v [T, H, V], g and beta [T, H] -> o [T, H, V], state [H, K, V], from a state of zeros.

    What qwen_ref.model.deltanet.gated_delta_recurrent does, with one of MISTAKES.
    """
    o = np.empty(v.shape)
    S = np.zeros((v.shape[1], k.shape[2], v.shape[2]))
    for t in range(len(q)):
        decay = np.exp(g[t])[:, None, None]
        decayed = S if mistake in ("no decay", "decay last") else S * decay
        read = S if mistake == "late decay" else decayed
        held = 0 if mistake == "no erase" else np.einsum("hkv,hk->hv", read, k[t])  # [H, V]
        u = (v[t] - held) * (1 if mistake == "no beta" else beta[t][:, None])  # [H, V]
        S = decayed + k[t][:, :, None] * u[:, None, :]  # [H, K, 1] * [H, 1, V]
        if mistake == "decay last":
            S = S * decay
        if mistake == "rounded":
            S = to_bfloat16("", S)
        o[t] = np.einsum("hkv,hk->hv", decayed if mistake == "early output" else S, q[t])
    return o, S


def lost_at_a_boundary(p: Place) -> Array | None:
    """Right up to a multiple of 16 tokens, and wrong from there on: what is left then is nothing."""
    exact, found, rows = p.exact, p.found, p.entry.rows
    error = np.sqrt(np.nansum((found - exact) ** 2, 1) / np.maximum(np.nansum(exact**2, 1), TINY))  # [rows]
    for i in range(1, len(rows)):
        at_boundary = rows[i] % (CHUNK // 4) == 0 and rows[i - 1] == rows[i] - 1
        before = max(np.sqrt(np.mean(error[:i] ** 2)), error[i - 1], ROUNDED)
        if at_boundary and error[i] > LEAP * before:
            return np.concatenate([exact[:i], found[i:]])
    return None


def wrong_heads(p: Place) -> Array | None:
    config = p.config
    if config.linear_num_key_heads == config.linear_num_value_heads:
        return None
    return rule(heads=lambda H_k, H_v: np.arange(H_v) % H_k)(p)


CAUSES = [
    Cause(
        "V heads read the wrong K heads: repeated where they are tiled, or the other way round",
        f"{O} {STATE}",
        wrong_heads,
    ),
    Cause("g and beta stand in another order of V heads than v", f"{O} {STATE}", other_order),
    *[Cause(f"the delta rule {told}", f"{O} {STATE}", rule(mistake)) for mistake, told in MISTAKES.items()],
    Cause(
        "wrong from a chunk's boundary on: the state, or the convolution's past, is lost there",
        f"{O} linear_attn.conv1d",
        lost_at_a_boundary,
        MANY,
    ),
]
