"""Values that are right, and stand at other heads or tokens."""

from __future__ import annotations

import numpy as np

from qwen_ref.oracle.causes.cause import Array, Cause, Place, TooLittle, later, tiled_order

QUERIES = "self_attn.q_proj self_attn.gate"
WITH_KEYS = "linear_attn.in_proj_qkv linear_attn.conv1d"
STATE = "linear_attn.state"
V_HEADS = " ".join(
    f"linear_attn.{part}" for part in ("in_proj_b", "beta", "in_proj_a", "g", "o", "in_proj_z", "norm")
)


def halves(p: Place) -> Array:
    """All queries first and then all gates, instead of head by head."""
    q, gate = p.whole("q_proj"), p.whole("gate")
    together = np.concatenate([q, gate], axis=2).reshape(len(q), -1)  # [T, H, 2D] -> [T, H*2D]
    return np.split(together, 2, axis=1)[p.kind == "self_attn.gate"]


def tiled(p: Place) -> Array | None:
    config = p.config
    if config.linear_num_key_heads == config.linear_num_value_heads:
        return None
    exact, order = p.whole(), tiled_order(config)
    if p.kind == STATE:
        if p.entry.rows != list(range(config.linear_num_value_heads)):
            raise TooLittle
        return exact[order]
    if p.kind not in WITH_KEYS:
        return exact[:, order]
    qk, v = np.split(exact, [2 * config.key_dim], axis=1)
    v = v.reshape(len(v), len(order), -1)[:, order].reshape(v.shape)
    return np.concatenate([qk, v], axis=1)


def transposed(p: Place) -> Array | None:
    square = p.config.linear_key_head_dim == p.config.linear_value_head_dim
    return p.whole().swapaxes(1, 2) if square else None


CAUSES = [
    Cause(
        "query and gate are swapped",
        QUERIES,
        lambda p: p.same("gate" if p.kind == "self_attn.q_proj" else "q_proj"),
    ),
    Cause("q_proj is split into halves; queries and gates alternate, head by head", QUERIES, halves),
    Cause(
        "V heads stand in GGUF's tiled order; in a golden those lie together that share a K head",
        f"{WITH_KEYS} {V_HEADS} {STATE}",
        tiled,
    ),
    Cause("the state is transposed: a golden has [H, K, V]", STATE, transposed),
    Cause("each token has the logits of the one before it", "logits", later(-1)),
    Cause("each token has the logits of the one behind it", "logits", later(1)),
]
