"""A golden beside what another engine computed: where they part first, by how much, and what explains it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from qwen_ref.errors import QwenRefError
from qwen_ref.oracle.causes import find_cause
from qwen_ref.oracle.golden import Entry, Golden, as_numpy
from qwen_ref.oracle.logits import agreement
from qwen_ref.oracle.record import grouped_heads

# The strictest first: what one rounding of each does to a value, as a share of the rms of its tensor.
UNIT = {"float64": 1e-11, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8, "int8": 2.0**-7}
# An engine of the same arithmetic that adds in another order lands about as far from the exact values: so
# many times as far at most in rms, and twice that in its worst value. In float32 more: the delta rule is
# solved in float64 here, and transformers' state in float32 was seen 6.7 times as far.
SLACK = {"float64": 1, "float32": 8, "float16": 4, "bfloat16": 4, "int8": 4}

BESIDE = ("token_ids", "positions", "generated")  # what may be found beside tensors
MEDIA = ("images.", "videos.")
ALL_TOKENS = re.compile(r"\.state$|\.weights\.")  # rows are no tokens, or columns are tokens

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
    logits     of the logits, if they were given: mean KL divergence (nats, of the best 20 and all others
               together), how often the best token is the same, and how many of the best five are
    greedy     the engine's greedy tokens beside the golden's: a sentence; None if it gave none
    complaint  what is wrong, in one sentence (other tokens or positions come before `first`), or None
    """

    allowed: str
    differences: list[Difference]
    first: Difference | None
    cause: str | None
    missing: list[str]
    logits: dict[str, float]
    greedy: str | None = None
    complaint: str | None = None


def compare(golden: Golden, found: Mapping[str, Any], allowed: str = "float32") -> Report:
    """`found` has tensors under the golden's names, of all tokens or of the prompt's alone.

    They are NumPy arrays, or whatever NumPy or DLPack can read, or Partial. Beside them may be the engine's
    own `token_ids`, `positions` [3, T], and `generated`: its greedy tokens after the prompt.
    Raises QwenRefError if none has a name of the golden's, or one has another shape, or what is no number.
    """
    check_allowed(allowed)
    unknown = unknown_layer(golden, found)
    if not unknown and not any(name in golden.entries or name in BESIDE for name in found):
        some = ", ".join(list(found)[:3]) or "nothing"
        raise QwenRefError(
            f"no tensor has a name of the golden's ({', '.join(list(golden.entries)[:3])}, …), but: {some}"
        )
    beside = {name: as_numpy(name, found[name]) for name in BESIDE if name in found}
    tensors = shaped(golden, {name: x for name, x in found.items() if name in golden.entries})
    with np.errstate(all="ignore"):  # what an engine gives may be anything
        report = compare_samples(golden, {n: sample_of(golden, n, x) for n, x in tensors.items()}, allowed)
        unlikely = greedy = None
        if isinstance(logits := tensors.get("logits"), np.ndarray):
            report.logits = agreement(golden.inputs, logits)
            unlikely = too_far(golden, report.logits["kl"], allowed)
    if "generated" in beside:
        report.greedy, greedy = of_greedy(golden, beside["generated"].ravel().tolist(), allowed)
    report.complaint = wrong_inputs(golden, beside) or unknown or report.complaint or unlikely or greedy
    return report


def from_tiled(golden: Golden, found: Mapping[str, Any]) -> dict[str, Any]:
    """The same with V heads in a golden's order, of an engine that has GGUF's. Raises QwenRefError."""
    heads = {name: x for name, x in found.items() if name in golden.entries and ".linear_attn." in name}
    tensors = shaped(golden, heads)
    return dict(found) | {
        name: x if isinstance(x, Partial) else grouped_heads(name, x, golden.config)
        for name, x in tensors.items()
    }


def shaped(golden: Golden, found: Mapping[str, Any]) -> dict[str, np.ndarray | Partial]:
    """Arrays in the golden's shapes, of all T tokens or of the P of the prompt, if the engine ran it alone.

    A batch of one, or heads that are not split, are the same tensor: the shape [1, T, H*D] for [T, H, D].
    Of a prompt alone the state, which is another one, and attention weights, which have fewer columns, are
    left out. Raises QwenRefError if a shape is another.
    """
    T, P = len(golden.inputs["token_ids"]), golden.about["prompt_tokens"]
    tensors: dict[str, np.ndarray | Partial] = {}
    not_shaped = {}
    for name, x in found.items():
        shape = golden.entries[name].shape
        if isinstance(x, Partial):
            tensors[name] = x
            continue
        x = as_numpy(name, x)
        rows = x[0] if x.ndim > 1 and x.shape[0] == 1 != shape[0] else x
        count = len(rows) if rows.ndim else 0
        some = count == P and not name.startswith(MEDIA)
        if (count == shape[0] or some) and rows.size == count * math.prod(shape[1:]):
            tensors[name] = rows.reshape(count, *shape[1:])
        else:
            not_shaped[name] = x.shape
    alone = P < T and any(
        isinstance(x, np.ndarray) and len(x) == P
        for name, x in tensors.items()
        if not name.startswith(MEDIA) and not ALL_TOKENS.search(name)
    )
    for name, theirs in not_shaped.items():
        if not (alone and ALL_TOKENS.search(name)):
            raise QwenRefError(f"{name}: shape {theirs} should be {golden.entries[name].shape}")
    return {name: x for name, x in tensors.items() if not (alone and ALL_TOKENS.search(name))}


def sample_of(golden: Golden, name: str, x: np.ndarray | Partial) -> np.ndarray | Partial:
    """What the golden keeps of a tensor, float64 [rows, columns]; of a prompt alone only that is known."""
    entry = golden.entries[name]
    if isinstance(x, Partial):
        return x
    if len(x) == entry.shape[0]:
        return entry.sample(x).astype(np.float64)
    unknown = np.full((entry.shape[0] - len(x), *x.shape[1:]), np.nan)
    return Partial(entry.sample(np.concatenate([x, unknown])), 0.0)


def check_allowed(allowed: str) -> None:
    if allowed not in UNIT:
        raise QwenRefError(f"allowed: {allowed!r} is not one of {', '.join(UNIT)}")


def compare_samples(
    golden: Golden, samples: Mapping[str, np.ndarray | Partial], allowed: str = "float32"
) -> Report:
    """The same for what the golden keeps of each tensor, float64 [rows, columns]: another golden's values."""
    check_allowed(allowed)
    samples = {name: samples[name] for name in golden.entries if known_of(samples.get(name))}
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
        {},
        complaint=f"{first.name} is the first tensor that {allowed} does not explain: its error is "
        f"{times(first.share[allowed])} the budget"
        if first
        else None,
    )


def times(share: float) -> str:
    """0.25 -> 25 %, 3.14 -> 3.1 ×, 31415 -> 31,415 ×"""
    if share <= 1:
        return f"{share * 100:.0f} %"
    return f"{share:.1f} ×" if share < 10 else f"{share:,.0f} ×" if share < 1e6 else f"{share:.0e} ×"


def known_of(x: np.ndarray | Partial | None) -> bool:
    """Is there anything to compare?"""
    return x is not None and (x.count() if isinstance(x, Partial) else x.size) > 0


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


# ---- tokens and logits


def too_far(golden: Golden, kl: float, allowed: str) -> str | None:
    """A complaint about the mean KL divergence of the logits, which goes with the square of their error."""
    rounding = 1e-14  # of the divergence's own sums, in float64
    budget = SLACK[allowed] ** 2 * golden.kl.get(allowed, 0.0) + rounding
    if kl <= budget:
        return None
    return f"the logits' KL divergence of {kl:.1e} is {times(kl / budget)} what {allowed} explains"


def of_greedy(golden: Golden, found: list[int], allowed: str) -> tuple[str, str | None]:
    """A sentence on the greedy tokens, and the same as a complaint if no near-tie explains a difference."""
    start = golden.about["prompt_tokens"]
    expected = golden.inputs["token_ids"][start:].tolist()
    count = min(len(found), len(expected))
    at = next((i for i in range(count) if found[i] != expected[i]), None)
    if at is None:
        return f"{count} of {len(expected)} tokens, all the same", None
    best, second = golden.inputs["top_logits"][start - 1 + at, :2]
    sentence = f"token {at} is {found[at]} and not {expected[at]}, whose logit is {best - second:.1e} higher"
    entry = golden.entries.get("logits")
    error = 2 * SLACK[allowed] * entry.errors.get(allowed, (0, 0))[1] if entry else 0.0
    if best - second <= 2 * error:  # both logits may be that far off
        return f"{at} of {len(expected)} tokens, then a near-tie: {sentence}", None
    return sentence, f"generated: {sentence}"


def unknown_layer(golden: Golden, found: Mapping[str, Any]) -> str | None:
    """A complaint about a layer that the model does not have: MTP layers stand after its last one."""
    layers = golden.config.num_layers
    for name in found:
        if (layer := re.match(r"layers\.(\d{1,9})\.", name)) and int(layer[1]) >= layers:
            return f"{name}: the model has {layers} layers, and MTP layers are not among them"
    return None


def wrong_inputs(golden: Golden, found: Mapping[str, np.ndarray]) -> str | None:
    """A sentence on the first of the token ids and positions that is not the golden's."""
    P = golden.about["prompt_tokens"]
    for name in "token_ids", "positions":
        if name not in found:
            continue
        x, expected = found[name], golden.inputs[name]
        rows = 1 if name == "token_ids" else 3
        if x.size % rows or (rows == 3 and 3 not in x.shape[:-1]):
            return f"{name}: shape {list(x.shape)} should be {list(expected.shape)}"
        x, expected = (y.reshape(rows, -1) for y in (x, expected))  # without a batch of one
        length = min(x.shape[1], expected.shape[1])
        wrong = np.flatnonzero((x[:, :length] != expected[:, :length]).any(0))
        if wrong.size:
            at = int(wrong[0])
            ours, theirs = (y[:, at].squeeze().tolist() for y in (expected, x))
            return f"{name}: of token {at}: {theirs} should be {ours}"
        if x.shape[1] not in (P, expected.shape[1]):
            return f"{name}: of {x.shape[1]} tokens; the prompt has {P} and all are {expected.shape[1]}"
    return None
