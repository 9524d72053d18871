"""Known mistakes in engines, recognised by what they do to the first tensor that is wrong.

Each function takes a golden, the name of that tensor and what the engine has there, and returns what the
mistake would have made of the exact values, or None where it cannot make a difference. A cause is named if
it explains the tensor: if what is left of the error is a small part of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from qwen_ref.config import Config
from qwen_ref.model.deltanet import CHUNK, gated_delta_chunked
from qwen_ref.model.rope import apply_rope, cos_sin, frequencies
from qwen_ref.oracle.golden import Golden

LEFT = 0.3  # of the error, at most, if a cause explains it

Array = np.ndarray
Cause = Callable[[Golden, str, Array], Array | None]


def find_cause(golden: Golden, name: str, found: Array, known: Array | None = None) -> str | None:
    """A sentence, or None. `found` is the engine's sample of the tensor, as the golden keeps it.

    `known` says which values of it are known, where not all are; the others are NaN.
    """
    exact = golden.values[name]
    known = np.ones(exact.shape, bool) if known is None else known
    if not np.isfinite(found[known]).all():
        return "some values are not finite"
    left = {}
    for sentence, cause in CAUSES.items():
        if (would_be := cause(golden, name, found)) is None:
            continue
        would_be = would_be.reshape(exact.shape)
        here = known & ~np.isnan(would_be)  # not all rows can be told what a mistake makes of them
        if error := np.linalg.norm((found - exact)[here]):
            left[sentence] = float(np.linalg.norm((found - would_be)[here]) / error)
    best = min(left, key=lambda sentence: left[sentence], default=None)
    return best if best and left[best] <= LEFT else None


def whole_rows(golden: Golden, name: str) -> Array | None:
    """What the golden keeps of a tensor, [rows, ...] as in its own shape, if that is all columns."""
    entry = golden.entries.get(name)
    if entry is None or entry.stride != 1:
        return None
    return golden.values[name].reshape(-1, *entry.shape[1:])


def beside(name: str, other: str) -> str:
    """layers.3.self_attn.gate, q_proj -> layers.3.self_attn.q_proj"""
    return f"{name.rpartition('.')[0]}.{other}"


def last(name: str) -> str:
    return name.rpartition(".")[2]


def is_norm(name: str) -> bool:
    return last(name) in ("input_layernorm", "post_attention_layernorm", "q_norm", "k_norm", "norm")


# ---- norms


def other_weight(golden: Golden, name: str, found: Array) -> Array | None:
    """Each column is off by a factor of its own, the same in every row and head."""
    exact, entry = golden.values[name], golden.entries[name]
    if not is_norm(name) or entry.stride != 1:
        return None
    exact, found = (x.reshape(-1, entry.shape[-1]) for x in (exact, found))
    unknown = np.isnan(found)
    if (~unknown).sum(0).max() < 4:  # too few to tell a factor from any error
        return None
    squares = np.where(unknown, 0, exact * exact).sum(0)
    return exact * np.nansum(found * exact, 0) / np.maximum(squares, np.finfo(float).tiny)


def other_length(golden: Golden, name: str, found: Array) -> Array | None:
    """Each vector is off by a factor of its own: it was divided by another length."""
    exact, entry = golden.values[name], golden.entries[name]
    if "linear_attn" not in name or last(name) not in ("q_norm", "k_norm") or entry.stride != 1:
        return None
    exact, found = (x.reshape(-1, entry.shape[-1]) for x in (exact, found))
    squares = np.where(np.isnan(found), 0, exact * exact).sum(1, keepdims=True)
    return exact * np.nansum(found * exact, 1, keepdims=True) / np.maximum(squares, np.finfo(float).tiny)


# ---- heads


def tiled_heads(golden: Golden, name: str, found: Array) -> Array | None:
    """V heads in GGUF's order: the values are right, but stand at other heads."""
    exact, config = whole_rows(golden, name), golden.config
    H_k, H_v = config.linear_num_key_heads, config.linear_num_value_heads
    if exact is None or "linear_attn" not in name or H_k == H_v:
        return None
    tiled = np.arange(H_v).reshape(H_k, -1).T.ravel()
    if last(name) in ("in_proj_qkv", "conv1d"):
        qk, v = np.split(exact, [2 * config.key_dim], axis=1)
        v = v.reshape(len(v), H_v, -1)[:, tiled].reshape(v.shape)
        return np.concatenate([qk, v], axis=1)
    axis = 0 if last(name) == "state" else 1
    return np.take(exact, tiled, axis) if exact.ndim > axis and exact.shape[axis] == H_v else None


def wrong_keys(golden: Golden, name: str, found: Array) -> Array | None:
    """The delta rule with K heads repeated in the order that the V heads do not have.

    For as many tokens from the first on as the golden keeps without a gap.
    """
    config = golden.config
    q, k, g, beta, conv = (
        whole_rows(golden, beside(name, part)) for part in ("q_norm", "k_norm", "g", "beta", "conv1d")
    )
    if last(name) not in ("o", "state") or q is None or k is None or g is None or beta is None:
        return None
    H_k, H_v = config.linear_num_key_heads, config.linear_num_value_heads
    if conv is None or H_k == H_v:
        return None
    q, k = (np.tile(x, (1, H_v // H_k, 1)) for x in (q / np.sqrt(q.shape[-1]), k))
    v = conv[:, 2 * config.key_dim :].reshape(len(q), H_v, -1)
    entry = golden.entries[beside(name, "o")]
    known = int(np.sum(np.array(entry.rows) == np.arange(len(entry.rows))))
    o = np.full(v.shape, np.nan)
    start = np.zeros((H_v, q.shape[-1], v.shape[-1]))
    o[:known], end = gated_delta_chunked(q[:known], k[:known], v[:known], g[:known], beta[:known], start)
    if last(name) == "o":
        return o
    return end if known == entry.shape[0] else None


def transposed(golden: Golden, name: str, found: Array) -> Array | None:
    exact = whole_rows(golden, name)
    if last(name) != "state" or exact is None or exact.shape[1] != exact.shape[2]:
        return None
    return exact.swapaxes(1, 2)


def swapped(golden: Golden, name: str, found: Array) -> Array | None:
    other = {"q_proj": "gate", "gate": "q_proj"}.get(last(name))
    return None if other is None else golden.values.get(beside(name, other))


def halves(golden: Golden, name: str, found: Array) -> Array | None:
    """All queries first and then all gates, instead of head by head."""
    q, gate = (whole_rows(golden, beside(name, part)) for part in ("q_proj", "gate"))
    if last(name) not in ("q_proj", "gate") or q is None or gate is None:
        return None
    together = np.concatenate([q, gate], axis=2).reshape(len(q), -1)  # [T, H, 2D] -> [T, H*2D]
    return np.split(together, 2, axis=1)[last(name) == "gate"]


# ---- positions


Turn = Callable[[Array, Config], tuple[Array, Config]]  # positions [3, rows] -> coordinate [rows, R/2 or 1]


def other_rope(turn: Turn) -> Cause:
    """RoPE by other coordinates, or another configuration: seen in its tables, or in queries and keys."""

    def cause(golden: Golden, name: str, found: Array) -> Array | None:
        entry = golden.entries[name]
        if entry.stride != 1 or not (name.startswith("rope.") or last(name) in ("q_rope", "k_rope")):
            return None
        coordinate, config = turn(golden.inputs["positions"][:, entry.rows], golden.config)
        cos, sin = cos_sin(coordinate, config)  # [rows, R/2]
        tables = {"rope.angle": coordinate * frequencies(config)[1], "rope.cos": cos, "rope.sin": sin}
        if name in tables:
            return tables[name]
        before = whole_rows(golden, beside(name, last(name)[0] + "_norm"))
        return None if before is None else apply_rope(before, cos, sin)

    return cause


def contiguous(config: Config) -> Array:
    sections = [*config.mrope_section]
    return np.repeat(np.arange(3), sections)[: config.rotary_dim // 2]


def contiguous_sections(positions: Array, config: Config) -> tuple[Array, Config]:
    return positions[contiguous(config)].T, config  # [3, rows] -> [R/2, rows] -> [rows, R/2]


def time_only(positions: Array, config: Config) -> tuple[Array, Config]:
    return positions[0][:, None], config


def counted_from_one(positions: Array, config: Config) -> tuple[Array, Config]:
    return positions[frequencies(config)[0]].T + 1, config


def not_scaled(positions: Array, config: Config) -> tuple[Array, Config]:
    return positions[frequencies(config)[0]].T, dataclasses.replace(config, yarn=None)


def neighbours_rotated(golden: Golden, name: str, found: Array) -> Array | None:
    """Dimension 2i turned with 2i + 1, instead of i with i + R/2."""
    if last(name) not in ("q_rope", "k_rope"):
        return None
    before, config = whole_rows(golden, beside(name, last(name)[0] + "_norm")), golden.config
    if before is None:
        return None
    R = config.rotary_dim
    positions = golden.inputs["positions"][:, golden.entries[name].rows]  # [3, T] -> [3, rows]
    cos, sin = cos_sin(positions[frequencies(config)[0]].T, config)  # [rows, R/2]
    order = np.concatenate([np.arange(0, R, 2), np.arange(1, R, 2), np.arange(R, before.shape[-1])])
    turned = apply_rope(before[..., order], cos, sin)
    return turned[..., np.argsort(order)]


# ---- chunks


def chunk_boundary(golden: Golden, name: str, found: Array) -> Array | None:
    """Right up to a multiple of 16 tokens, and wrong from there on: what is left then is nothing."""
    if "linear_attn" not in name or last(name) not in ("o", "conv1d"):
        return None
    exact, rows = golden.values[name], np.array(golden.entries[name].rows)
    error = np.linalg.norm(found - exact, axis=1) / np.maximum(np.linalg.norm(exact, axis=1), 1e-300)
    wrong = np.flatnonzero(error > max(10 * np.median(error[: max(1, len(error) // 8)]), 1e-6))
    if not len(wrong) or wrong[0] == 0 or rows[wrong[0]] % (CHUNK // 4):
        return None
    would_be = exact.copy()
    would_be[wrong[0] :] = found[wrong[0] :]
    return would_be


CAUSES: dict[str, Cause] = {
    "query and gate are swapped": swapped,
    "q_proj is split into halves; queries and gates alternate, head by head": halves,
    "V heads stand in GGUF's tiled order; in a golden those lie together that share a K head": tiled_heads,
    "V heads read the wrong K heads: repeated where they are tiled, or the other way round": wrong_keys,
    "the state is transposed: a golden has [H, K, V]": transposed,
    "RoPE's sections are contiguous; Qwen3.5 interleaves time, row and column": other_rope(
        contiguous_sections
    ),
    "RoPE knows only one coordinate; pictures have time, row and column": other_rope(time_only),
    "RoPE counts from 1; the first token has position 0": other_rope(counted_from_one),
    "RoPE is not scaled; the file asks for YaRN": other_rope(not_scaled),
    "RoPE turns neighbours; dimension i turns with i + R/2": neighbours_rotated,
    "the l2-norm has its eps in another place: it belongs inside the root, beside the sum": other_length,
    "the norm has another weight: 1 + the checkpoint's, as in GGUF (linear_attn.norm: no 1)": other_weight,
    "wrong from a chunk's boundary on: the state, or the convolution's past, is lost there": chunk_boundary,
}
