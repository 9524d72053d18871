"""A golden beside what another engine computed: where they part first, by how much, and what explains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


@dataclass
class Difference:
    """How one tensor of an engine differs from the exact one.

    rms, max   of the error, over what the golden keeps
    relative   rms of the error / rms of the tensor
    cosine     between the two
    explained  the strictest arithmetic that explains the error, None if none does
    share      of each arithmetic's budget: above 1 it does not explain the error
    """

    name: str
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

    They are NumPy arrays or whatever NumPy or DLPack can read. Raises QwenRefError if none has a name of the
    golden's, or one has another shape, or what is no number.
    """
    if not any(name in golden.entries for name in found):
        some = ", ".join(list(found)[:3]) or "nothing"
        raise QwenRefError(
            f"no tensor has a name of the golden's ({', '.join(list(golden.entries)[:3])}, …), but: {some}"
        )
    samples = {
        name: sample_of(name, entry, found[name]) for name, entry in golden.entries.items() if name in found
    }
    return compare_samples(golden, samples, allowed)


def compare_samples(golden: Golden, samples: Mapping[str, np.ndarray], allowed: str = "float32") -> Report:
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
        find_cause(golden, first.name, samples[first.name]) if first else None,
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


def difference(name: str, entry: Entry, exact: np.ndarray, x: np.ndarray) -> Difference:
    error = x - exact
    finite = bool(np.isfinite(x).all())
    rms = float(np.sqrt(np.mean(error**2))) if finite else np.inf
    most = float(np.abs(error).max(initial=0)) if finite else np.inf
    lengths = float(np.linalg.norm(x) * np.linalg.norm(exact)) if finite else 0.0
    share = {}
    for kind, unit in UNIT.items():
        rms_budget, max_budget = entry.errors.get(kind, (0.0, 0.0))
        share[kind] = max(
            rms / max(SLACK[kind] * rms_budget, unit * entry.rms, np.finfo(float).tiny),
            most / max(2 * SLACK[kind] * max_budget, unit * entry.max, np.finfo(float).tiny),
        )
    return Difference(
        name,
        rms,
        most,
        rms / entry.rms if entry.rms else rms,
        float(np.sum(x * exact)) / lengths if lengths else 0.0,
        next((kind for kind, s in share.items() if s <= 1), None),
        share,
    )


def of_logits(golden: Golden, samples: Mapping[str, np.ndarray]) -> dict[str, float]:
    if "logits" not in samples or golden.entries["logits"].stride != 1:
        return {}
    exact, x = (log_softmax(logits) for logits in (golden.values["logits"], samples["logits"]))
    return {
        "kl": float(np.mean(np.sum(np.exp(exact) * (exact - x), axis=1))),
        "same best token": float(np.mean(exact.argmax(1) == x.argmax(1))),
    }


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))
