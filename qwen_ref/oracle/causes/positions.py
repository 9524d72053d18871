"""RoPE by other coordinates, or another configuration: seen in its tables, or in queries and keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from qwen_ref.config import Config
from qwen_ref.model.rope import apply_rope, cos_sin, frequencies
from qwen_ref.oracle.causes.cause import Array, Cause, Place
from qwen_ref.oracle.causes.norms import OF_HEADS, of_heads

TURNED = "self_attn.q_rope self_attn.k_rope"
ALL = f"rope.angle rope.cos rope.sin {TURNED}"
BASES = 1e4, 1e5, 5e5, 1e6, 1e7  # of models that engines know


def positions(p: Place) -> Array:
    """[3, rows]"""
    return p.golden.inputs["positions"][:, p.entry.rows]


def by_frequency(p: Place, axis: Array | None = None) -> Array:
    """[rows, R/2]: the coordinate that each frequency takes of each token."""
    return positions(p)[frequencies(p.config)[0] if axis is None else axis].T


def turned(p: Place, coordinate: Array, config: Config | None = None) -> Array:
    config = config or p.config
    kept = p.whole()
    cos, sin = cos_sin(coordinate, config)  # [rows, R/2]
    if p.kind in TURNED:
        return apply_rope(unturned(p), cos, sin)
    angle = coordinate * frequencies(config)[1]
    return np.broadcast_to({"rope.angle": angle, "rope.cos": cos, "rope.sin": sin}[p.kind], kept.shape)


def unturned(p: Place) -> Array:
    return p.whole(p.kind[len("self_attn.")] + "_norm")


def shift(by: int) -> Callable[[Place], Array]:
    return lambda p: turned(p, np.maximum(by_frequency(p) + by, 0))


def backwards(p: Place) -> Array:
    return turned(p, -by_frequency(p))


def from_zero(p: Place) -> tuple[Array, int] | None:
    first = int(p.golden.inputs["positions"].min())
    return (turned(p, by_frequency(p) - first), first) if first else None


def exchanged(p: Place) -> Array | None:
    _, row, column = positions(p)
    return turned(p, positions(p)[[0, 2, 1]][frequencies(p.config)[0]].T) if (row != column).any() else None


def yarn(change: Callable[[Any], Any]) -> Callable[[Place], Array | None]:
    def makes(p: Place) -> Array | None:
        stretched = p.config.yarn
        return turned(p, by_frequency(p), replace(p.config, yarn=change(stretched))) if stretched else None

    return makes


def other_base(base: float) -> Callable[[Place], Any]:
    def makes(p: Place) -> Any:
        theta = p.config.rope_theta
        other = replace(p.config, rope_theta=base)
        return (turned(p, by_frequency(p), other), base, theta) if base != theta else None

    return makes


def all_dimensions(p: Place) -> Any:
    config = replace(p.config, rotary_dim=p.config.head_dim)
    if config == p.config:
        return None
    return turned(p, by_frequency(p, frequencies(config)[0]), config), p.config.rotary_dim


def before_the_norm(p: Place) -> Array:
    """The root is the same one, and the weight comes to stand at other numbers."""
    q_or_k = p.kind[len("self_attn.")]
    normed, weight = of_heads(p, q_or_k)
    return apply_rope(normed, *cos_sin(by_frequency(p), p.config)) * weight


def contiguous(config: Config) -> Array:
    """Each frequency's coordinate [R/2] if those of one lie together."""
    return np.repeat(np.arange(3), [*config.mrope_section])[: config.rotary_dim // 2]


def neighbours(x: Array, cos: Array, sin: Array) -> Array:
    """x [rows, H, D] with dimension 2i turned with 2i + 1, instead of i with i + R/2."""
    R = 2 * cos.shape[1]
    order = np.concatenate([np.arange(0, R, 2), np.arange(1, R, 2), np.arange(R, x.shape[-1])])
    return apply_rope(x[..., order], cos, sin)[..., np.argsort(order)]


CAUSES = [
    Cause("RoPE is missing", TURNED, unturned),
    Cause(
        "RoPE turns neighbours; dimension i turns with i + R/2",
        TURNED,
        lambda p: neighbours(unturned(p), *cos_sin(by_frequency(p), p.config)),
    ),
    Cause(
        "RoPE comes before the norm of queries and keys; it belongs behind it",
        f"{TURNED} {OF_HEADS}",
        before_the_norm,
    ),
    Cause("RoPE turns all of head_dim, and not its first {}", TURNED, all_dimensions),
    Cause(
        "RoPE's sections are contiguous; Qwen3.5 interleaves time, row and column",
        ALL,
        lambda p: turned(p, by_frequency(p, contiguous(p.config))),
    ),
    Cause(
        "RoPE knows only one coordinate; pictures have time, row and column",
        ALL,
        lambda p: turned(p, positions(p)[0][:, None]),
    ),
    Cause("RoPE has rows and columns of pictures exchanged", ALL, exchanged),
    Cause("RoPE counts from 1; the first token has position 0", ALL, shift(1)),
    Cause("RoPE counts from 0; the first token has position {}", ALL, from_zero),
    Cause("RoPE's positions are one behind", ALL, shift(-1)),
    Cause("RoPE turns the wrong way: a cos - b sin, b cos + a sin", ALL, backwards),
    Cause("RoPE is not scaled; the file asks for YaRN", ALL, yarn(lambda y: None)),
    Cause("YaRN's attention factor is missing", ALL, yarn(lambda y: replace(y, attention_factor=1.0))),
    *[Cause("RoPE's base is {:.0f}; the file says {:.0f}", ALL, other_base(base)) for base in BASES],
]
