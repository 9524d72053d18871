"""What a cause is, and what a golden keeps to tell one by."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from qwen_ref.config import Config
from qwen_ref.oracle.golden import Entry, Golden

FIRST = 64  # tokens, at most, for which outputs of the delta rule and of attention are computed anew

Array = np.ndarray


class TooLittle(Exception):
    """The golden does not keep what it takes to compute what a mistake does."""


class Cause(NamedTuple):
    """A mistake that engines make.

    sentence  what is told; {} are numbers that `makes` found out
    shows_in  kinds of the tensors in which it may be seen first (see Place.kind), with spaces between
    makes     what it makes of the exact values, NaN where that cannot be told; or (that, *numbers). None
              where there is no such mistake. Raises TooLittle
    fits      how many numbers it takes from what was found: 0, 1, or MANY
    """

    sentence: str
    shows_in: str
    makes: Callable[[Place], Any]
    fits: int = 0


MANY = 2  # one a column, or all from a row on


@dataclass(frozen=True)
class Place:
    """One tensor of a golden, and what an engine has there: float64 [rows, columns], NaN where not known."""

    golden: Golden
    name: str
    found: Array

    @property
    def exact(self) -> Array:
        return self.golden.values[self.name]

    @property
    def entry(self) -> Entry:
        return self.golden.entries[self.name]

    @property
    def config(self) -> Config:
        return self.golden.config

    @property
    def rows(self) -> Array:
        return np.array(self.entry.rows)

    @property
    def kind(self) -> str:
        return kind(self.name)

    def beside(self, other: str) -> str:
        """q_proj, of layers.3.self_attn.gate or layers.3.self_attn.weights.0 -> layers.3.self_attn.q_proj"""
        return re.sub(r"(weights\.)?\w+$", other, self.name)

    def same(self, *others: str) -> Any:
        """What stands beside, of the same shape: the same values of it. An array, or one of each."""
        found = [same_places(self.golden, self.name, self.beside(other)) for other in others]
        return found[0] if len(found) == 1 else found

    def whole(self, other: str | None = None) -> Array:
        """[rows, ...] as in the tensor's own shape: of this one, or what stands beside."""
        return whole_rows(self.golden, self.beside(other) if other else self.name)

    def first(self, most: int, *others: str) -> list[Array]:
        """Of what stands beside so many tokens from the first on, or as many as are kept without a gap."""
        return first_tokens(self.golden, most, *map(self.beside, others))

    def at_first(self, x: Array) -> Array:
        """x of the first tokens -> of all rows that the golden keeps."""
        rows = np.full((len(self.entry.rows), *self.entry.shape[1:]), np.nan)
        rows[: len(x)] = x
        return rows

    def weights(self, name: str) -> Array:
        """float64, of the model's file, by its name there. Raises LookupError if there is none at hand."""
        if self.golden.weights is None:
            raise LookupError(name)
        return self.golden.weights(name)


def kind(name: str) -> str:
    """layers.3.self_attn.gate -> self_attn.gate; images.0.blocks.1.attn.qkv -> attn.qkv"""
    local = re.sub(r"^(layers\.\d+|mtp|(images|videos)\.\d+(\.blocks\.\d+)?)\.", "", name)
    return re.sub(r"(?<=^self_attn\.weights)\.\d+$", "", local)


def whole_rows(golden: Golden, name: str) -> Array:
    """Raises TooLittle if only some columns are kept."""
    entry = golden.entries.get(name)
    if entry is None or entry.stride != 1:
        raise TooLittle
    return golden.values[name].reshape(len(entry.rows), *entry.shape[1:])


def same_places(golden: Golden, name: str, other: str) -> Array:
    """Raises TooLittle if others are kept."""
    entry, e = golden.entries[name], golden.entries.get(other)
    if e is None or (e.shape, e.rows, e.stride) != (entry.shape, entry.rows, entry.stride):
        raise TooLittle
    return golden.values[other]


def first_tokens(golden: Golden, most: int, *names: str) -> list[Array]:
    tensors = [whole_rows(golden, name) for name in names]
    count = min(most, *(without_gap(golden.entries[name]) for name in names))
    return [x[:count] for x in tensors]


def without_gap(entry: Entry) -> int:
    """How many rows from the first on are kept."""
    return int(np.sum(np.cumsum(np.array(entry.rows) != np.arange(len(entry.rows))) == 0))


def factors(exact: Array, found: Array, axis: int | None) -> Array:
    """By which found is nearest to exact (least squares), along an axis. NaN is not known."""
    squares = np.where(np.isnan(found), 0, exact * exact).sum(axis, keepdims=True)
    return np.nansum(found * exact, axis, keepdims=True) / np.maximum(squares, np.finfo(float).tiny)


def later(count: int) -> Callable[[Place], Array]:
    """Each token has what belongs to the one so many later."""

    def makes(p: Place) -> Array:
        place = {row: i for i, row in enumerate(p.entry.rows)}
        would_be = np.full(p.exact.shape, np.nan)
        for row, i in place.items():
            if row + count in place:
                would_be[i] = p.exact[place[row + count]]
        return would_be

    return makes


def tiled_order(config: Config) -> Array:
    """[H_v]: which of a golden's V heads stands at each place of GGUF's order."""
    H_k, H_v = config.linear_num_key_heads, config.linear_num_value_heads
    return np.arange(H_v).reshape(H_k, -1).T.ravel()
