"""A golden beside what another engine computed: where they part first, by how much, and what explains it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from qwen_ref.errors import QwenRefError
from qwen_ref.oracle.causes import find_cause
from qwen_ref.oracle.golden import Entry, Golden, as_numpy

# The strictest first: what one rounding of each does to a value, as a share of the rms of its tensor.
UNIT = {"float64": 1e-11, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8, "int8": 2.0**-7}
# An engine of the same arithmetic that adds in another order lands about as far from the exact values: so
# many times as far at most in rms, and twice that in its worst value. In float32 more: the delta rule is
# solved in float64 here, and transformers' state in float32 was seen 6.7 times as far.
SLACK = {"float64": 1, "float32": 8, "float16": 3, "bfloat16": 3, "int8": 3}

ONLY_THE_SUM = "the values that were given are right, and the sum of all is not: the others are wrong"


class Sum(NamedTuple):
    """The sum of all values of a tensor, as an engine added them up.

    error     how far it is from the sum of the golden's values
    rounding  how far the additions alone may bring it
    terms     how many were added
    """

    error: float
    rounding: float
    terms: int


@dataclass
class Partial:
    """A tensor of which an engine showed some values, in decimals.

    values     float64 [rows, columns], as the golden keeps them; NaN: not known, inf: not finite
    precision  how far a value may be from what it is the decimal of
    sum        None where it, or what the golden keeps, is not of the whole tensor
    """

    values: np.ndarray
    precision: float
    sum: Sum | None = None

    def known(self) -> np.ndarray:
        return ~np.isnan(self.values)

    def count(self) -> int:
        return int(self.known().sum())


@dataclass
class Difference:
    """How one tensor of an engine differs from the exact one.

    count      of the values that were compared: what the golden keeps, and of that what the engine showed
    rms, max   of the error, over these
    relative   rms of the error / rms of the tensor
    cosine     between the two
    explained  the strictest arithmetic that explains the error, None if none does
    share      of each arithmetic's budget: above 1 it does not explain the error
    """

    name: str
    count: int
    rms: float
    max: float
    relative: float
    cosine: float
    explained: str | None
    share: dict[str, float]


@dataclass
class Report:
    """Of all tensors that both have, in the order in which the model computes them.

    allowed    the arithmetic that the engine may err by
    first      the first tensor beyond that, None if there is none
    cause      what is known to do this to a tensor, None if nothing is
    missing    tensors of the golden that the engine did not give
    logits     KL divergence (nats) and share of rows with the same best token, where all logits were kept
    """

    allowed: str
    differences: list[Difference]
    first: Difference | None
    cause: str | None
    missing: list[str]
    logits: dict[str, float]


def compare(golden: Golden, found: Mapping[str, Any], allowed: str = "float32") -> Report:
    """`found` has tensors under the golden's names: whole, or what the golden keeps of them.

    They are NumPy arrays, or whatever NumPy or DLPack can read, or Partial. Raises QwenRefError if none has a
    name of the golden's, or one has another shape, or what is no number.
    """
    if not any(name in golden.entries for name in found):
        some = ", ".join(list(found)[:3]) or "nothing"
        raise QwenRefError(
            f"no tensor has a name of the golden's ({', '.join(list(golden.entries)[:3])}, …), but: {some}"
        )
    samples = {
        name: x if isinstance(x := found[name], Partial) else sample_of(name, entry, x)
        for name, entry in golden.entries.items()
        if name in found
    }
    return compare_samples(golden, samples, allowed)


def compare_samples(
    golden: Golden, samples: Mapping[str, np.ndarray | Partial], allowed: str = "float32"
) -> Report:
    """The same for what the golden keeps of each tensor, float64 [rows, columns]: another golden's values."""
    if allowed not in UNIT:
        raise QwenRefError(f"allowed: {allowed!r} is not one of {', '.join(UNIT)}")
    samples = {name: samples[name] for name in golden.entries if name in samples}
    differences = [
        difference(name, golden.entries[name], golden.values[name], x) for name, x in samples.items()
    ]
    first = next((d for d in differences if d.share[allowed] > 1), None)
    return Report(
        allowed,
        differences,
        first,
        cause_of(golden, first, samples[first.name], allowed) if first else None,
        [name for name in golden.entries if name not in samples],
        of_logits(golden, samples),
    )


def sample_of(name: str, entry: Entry, x: Any) -> np.ndarray:
    """What the golden keeps of a tensor, float64 [rows, columns].

    A batch of one, or heads that are not split, are the same tensor: the shape [1, T, H*D] for [T, H, D].
    """
    x = as_numpy(name, x)
    rows = x.shape[1:] if x.ndim > 1 and x.shape[0] == 1 != entry.shape[0] else x.shape
    if not rows or rows[0] != entry.shape[0] or x.size != np.prod(entry.shape):
        raise QwenRefError(f"{name}: shape {x.shape} should be {entry.shape}")
    return entry.sample(x.reshape(entry.shape)).astype(np.float64)


def difference(name: str, entry: Entry, exact: np.ndarray, found: np.ndarray | Partial) -> Difference:
    """Of a Partial: its values' error beside the budget and the precision, and its sum's.

    The budgets are of all that the golden keeps, N values. If rms is their error's, that of n among them can
    be sqrt(N / n) * rms, and the sum of n errors can be sqrt(N * n) * rms (both by Cauchy and Schwarz).
    """
    N = exact.size
    if isinstance(found, Partial):
        known, precision, total = found.known(), found.precision, found.sum
        x, exact = found.values[known], exact[known]
    else:
        x, precision, total = found, 0.0, None
    error = x - exact
    finite = bool(np.isfinite(x).all())
    rms = float(np.sqrt(np.mean(error**2))) if finite else np.inf
    most = float(np.abs(error).max(initial=0)) if finite else np.inf
    lengths = float(np.linalg.norm(x) * np.linalg.norm(exact)) if finite else 0.0
    tiny = np.finfo(float).tiny
    share = {}
    for kind, unit in UNIT.items():
        rms_budget, max_budget = entry.errors.get(kind, (0.0, 0.0))
        rms_budget = max(SLACK[kind] * rms_budget, unit * entry.rms, tiny)
        max_budget = max(2 * SLACK[kind] * max_budget, unit * entry.max, tiny)
        spread = math.sqrt(N / error.size)  # 1 for a whole tensor
        share[kind] = max(rms / (spread * rms_budget + precision), most / (max_budget + precision))
        if total:
            sum_budget = math.sqrt(N * total.terms) * rms_budget + total.rounding
            share[kind] = max(share[kind], total.error / sum_budget)
    return Difference(
        name,
        error.size,
        rms,
        most,
        rms / entry.rms if entry.rms else rms,
        float(np.sum(x * exact)) / lengths if lengths else 0.0,
        next((kind for kind, s in share.items() if s <= 1), None),
        share,
    )


def cause_of(golden: Golden, first: Difference, x: np.ndarray | Partial, allowed: str) -> str | None:
    """A sentence on the first tensor that is wrong, or None."""
    if not isinstance(x, Partial):
        return find_cause(golden, first.name, x)
    entry, exact = golden.entries[first.name], golden.values[first.name]
    if x.sum and difference(first.name, entry, exact, replace(x, sum=None)).share[allowed] <= 1:
        return ONLY_THE_SUM
    return find_cause(golden, first.name, x.values, x.known())


def of_logits(golden: Golden, samples: Mapping[str, np.ndarray | Partial]) -> dict[str, float]:
    found = samples.get("logits")
    if found is None or isinstance(found, Partial) or golden.entries["logits"].stride != 1:
        return {}
    exact, x = (log_softmax(logits) for logits in (golden.values["logits"], found))
    return {
        "kl": float(np.mean(np.sum(np.exp(exact) * (exact - x), axis=1))),
        "same best token": float(np.mean(exact.argmax(1) == x.argmax(1))),
    }


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))
