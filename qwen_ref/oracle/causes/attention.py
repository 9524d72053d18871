"""Scores, mask and heads of attention: in its weights, or in what is attended."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qwen_ref.model.activation import softmax
from qwen_ref.oracle.causes.cause import FIRST, Array, Cause, Place

WEIGHTS, ATTENDED = "self_attn.weights", "self_attn.attended"
OTHER_KV_HEADS = "query heads read the wrong KV heads: h % H_kv, and not h // (H / H_kv)"
SEES_NEXT = "the causal mask is off by one: a token sees the next one"
NO_MASK = "the causal mask is missing: tokens see later ones"
NOT_ITSELF = "the causal mask is off by one: a token does not see itself"


# ---- in the weights [rows, G, S] themselves: each row is right but for one place


def tokens(p: Place) -> tuple[Array, Array]:
    """Of each row and of each column."""
    return p.rows[:, None, None], np.arange(p.entry.shape[2])


def sees_later(only_the_next: bool) -> Callable[[Place], Array | None]:
    def makes(p: Place) -> Array | None:
        exact = p.whole()
        found, (token, column) = p.found.reshape(exact.shape), tokens(p)
        future = np.where(column > token + 1, np.abs(found), 0).max(initial=0)
        if (future == 0) != only_the_next:
            return None
        seen = np.where(column <= token, found, 0)
        right = seen / seen.sum(2, keepdims=True)  # what the engine has without the later tokens
        return found + exact - right

    return makes


def not_itself(p: Place) -> Array:
    exact, (token, column) = p.whole(), tokens(p)
    others = np.where(column == token, 0, exact)
    return others / others.sum(2, keepdims=True)


def other_scale(p: Place) -> tuple[Array, float]:
    """Scores that are c times as large make each weight w to w**c, and all together still 1."""
    exact = p.whole()
    found = p.found.reshape(exact.shape)
    share = np.where((exact > 0) & (found > 0), exact, 0)
    x, y = (np.where(share > 0, np.log(w), 0) for w in (exact, found))
    x, y = (z - np.sum(share * z, 2, keepdims=True) / share.sum(2, keepdims=True) for z in (x, y))
    factor = np.nansum(share * x * y) / np.nansum(share * x * x)
    would_be = exact**factor
    return would_be / would_be.sum(2, keepdims=True), factor


def heads_of(which: int) -> Callable[[Place], Array | None]:
    """As a KV head's queries an engine may give those that there should be (0), or those that read it (1)."""

    def makes(p: Place) -> Array | None:
        H, H_kv = p.config.num_attention_heads, p.config.num_key_value_heads
        if not 1 < H_kv < H:
            return None
        p.whole()
        q, k = p.first(FIRST, "q_rope", "k_rope")
        right, wrong = kv_heads(p)
        weights = attention_weights(q, k[:, wrong], 1 / np.sqrt(q.shape[-1]))  # [T, H, T]
        of_all = np.zeros((len(q), H // H_kv, p.entry.shape[2]))
        KV = int(p.name.rpartition(".")[2])
        of_all[:, :, : len(q)] = weights[:, np.flatnonzero((right, wrong)[which] == KV)]
        return p.at_first(of_all)

    return makes


# ---- in what is attended: computed anew for as many tokens from the first on as are kept without a gap


def kv_heads(p: Place) -> tuple[Array, Array]:
    """Of each query head: the right one, and h % H_kv."""
    H, H_kv = p.config.num_attention_heads, p.config.num_key_value_heads
    return np.arange(H) // (H // H_kv), np.arange(H) % H_kv


def attend(power: float = -0.5, until: int = 0, wrong: bool = False) -> Callable[[Place], Array | None]:
    """Scores times D**power; token t sees those up to t + until."""

    def makes(p: Place) -> Array | None:
        if wrong and not 1 < p.config.num_key_value_heads < p.config.num_attention_heads:
            return None
        q, k, v = p.first(FIRST, "q_rope", "k_rope", "v_proj")
        heads = kv_heads(p)[wrong]
        weights = attention_weights(q, k[:, heads], q.shape[-1] ** power, until)
        x = np.einsum("ths,shd->thd", weights, v[:, heads])
        return p.at_first(x[:-1] if until > 0 else x)  # the last has no next one here

    return makes


def attention_weights(q: Array, k: Array, scale: float, until: int = 0) -> Array:
    """q, k [T, H, D] -> [T, H, T]; token t sees those up to t + until."""
    scores = np.einsum("thd,shd->ths", q, k) * scale
    return softmax(np.where(np.tri(len(q), k=until, dtype=bool)[:, None], scores, -np.inf))


CAUSES = [
    Cause(SEES_NEXT, WEIGHTS, sees_later(True)),
    Cause(NO_MASK, WEIGHTS, sees_later(False)),
    Cause(NOT_ITSELF, WEIGHTS, not_itself),
    *[Cause(OTHER_KV_HEADS, WEIGHTS, heads_of(which)) for which in (0, 1)],
    Cause(OTHER_KV_HEADS, ATTENDED, attend(wrong=True)),
    Cause("attention's scores are not scaled by 1 / sqrt(head_dim)", ATTENDED, attend(power=0)),
    Cause("attention's scores are scaled by 1 / sqrt(head_dim) twice", ATTENDED, attend(power=-1)),
    Cause(SEES_NEXT, ATTENDED, attend(until=1)),
    Cause(NOT_ITSELF, ATTENDED, attend(until=-1)),
    Cause(
        "attention's scores are off by one constant factor, {:.3g}: their scale is 1 / sqrt(head_dim)",
        WEIGHTS,
        other_scale,
        1,
    ),
]
