"""A golden beside what another engine computed: where they part first, by how much, and what explains it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
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
    logits     of the logits, if whole rows were given: KL divergence (nats; where the golden keeps only some
               columns, that of the best 20 and all others together), share of rows with the same best token,
               and of the best five that are among the engine's best five
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
    if not any(name in golden.entries or name in BESIDE for name in found):
        some = ", ".join(list(found)[:3]) or "nothing"
        raise QwenRefError(
            f"no tensor has a name of the golden's ({', '.join(list(golden.entries)[:3])}, …), but: {some}"
        )
    arrays = {
        name: x if isinstance(x := found[name], Partial) else as_numpy(name, x)
        for name in [*BESIDE, *golden.entries]
        if name in found
    }
    samples = samples_of(golden, {n: x for n, x in arrays.items() if n not in BESIDE})
    report = compare_samples(golden, samples, allowed)
    if isinstance(logits := arrays.get("logits"), np.ndarray):
        rows = logits.reshape(-1, golden.entries["logits"].shape[1])
        report.logits = of_logits(golden, rows, range(len(rows)))
    greedy = None
    if isinstance(generated := arrays.get("generated"), np.ndarray):
        report.greedy, greedy = of_greedy(golden, generated.ravel().tolist(), allowed)
    report.complaint = wrong_inputs(golden, arrays) or report.complaint or greedy
    return report


def samples_of(golden: Golden, found: Mapping[str, np.ndarray | Partial]) -> dict[str, np.ndarray | Partial]:
    """What the golden keeps of each tensor. An engine may run the prompt alone, without the continuation.

    Then the state, which is another one, and attention weights, which have fewer columns, are left out.
    """
    T, P = len(golden.inputs["token_ids"]), golden.about["prompt_tokens"]
    once = {n: x for n, x in found.items() if not n.startswith(MEDIA) and not ALL_TOKENS.search(n)}
    arrays = {n: x for n, x in once.items() if isinstance(x, np.ndarray)}
    if P == T or not any(len(rows_first(golden.entries[n], x)) == P for n, x in arrays.items()):
        return {
            n: x if isinstance(x, Partial) else sample_of(n, golden.entries[n], x) for n, x in found.items()
        }
    media = {n: x for n, x in found.items() if n.startswith(MEDIA)}
    return {
        n: x if isinstance(x, Partial) else prompt_alone(n, golden.entries[n], x, P)
        for n, x in (media | once).items()
    }


def prompt_alone(name: str, entry: Entry, x: np.ndarray, tokens: int) -> np.ndarray | Partial:
    x = rows_first(entry, x)
    if len(x) != tokens:
        return sample_of(name, entry, x)
    unknown = np.full((entry.shape[0] - tokens, *x.shape[1:]), np.nan)
    return Partial(sample_of(name, entry, np.concatenate([x, unknown])), 0.0)


def rows_first(entry: Entry, x: np.ndarray) -> np.ndarray:
    """Without a batch of one."""
    return x[0] if x.ndim > 1 and x.shape[0] == 1 != entry.shape[0] else x


def compare_samples(
    golden: Golden, samples: Mapping[str, np.ndarray | Partial], allowed: str = "float32"
) -> Report:
    """The same for what the golden keeps of each tensor, float64 [rows, columns]: another golden's values."""
    if allowed not in UNIT:
        raise QwenRefError(f"allowed: {allowed!r} is not one of {', '.join(UNIT)}")
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


def sample_of(name: str, entry: Entry, x: np.ndarray) -> np.ndarray:
    """What the golden keeps of a tensor, float64 [rows, columns].

    A batch of one, or heads that are not split, are the same tensor: the shape [1, T, H*D] for [T, H, D].
    """
    rows = rows_first(entry, x)
    if not rows.ndim or len(rows) != entry.shape[0] or rows.size != np.prod(entry.shape):
        raise QwenRefError(f"{name}: shape {x.shape} should be {entry.shape}")
    return entry.sample(rows.reshape(entry.shape)).astype(np.float64)


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


def of_logits(golden: Golden, found: np.ndarray, rows: Sequence[int]) -> dict[str, float]:
    """found [rows, vocab]. KL divergence, and agreement on the best tokens; see Report."""
    entry = golden.entries["logits"]
    x = log_softmax(found.astype(np.float64))
    best = golden.inputs["top_ids"][rows]  # [rows, 20]
    exact = golden.inputs["top_logits"][rows] - golden.inputs["log_total"][rows][:, None]
    at_best = np.take_along_axis(x, best, 1)  # [rows, 20]
    five = np.argpartition(-x, min(5, x.shape[1] - 1), axis=1)[:, :5]
    same = [len(set(a) & set(b)) / len(b) for a, b in zip(best[:, :5].tolist(), five.tolist())]
    if entry.stride == 1 and list(rows) == entry.rows:
        whole = log_softmax(golden.values["logits"])
        kl = np.sum(np.exp(whole) * (whole - x), axis=1)
    else:
        rest, rest_of_x = (np.log1p(-np.minimum(np.exp(p).sum(1), 1 - 1e-15)) for p in (exact, at_best))
        kl = np.sum(np.exp(exact) * (exact - at_best), axis=1) + np.exp(rest) * (rest - rest_of_x)
    return {
        "kl": float(kl.mean()),
        "same best token": float(np.mean(best[:, 0] == x.argmax(1))),
        "same best five": float(np.mean(same)),
    }


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


def wrong_inputs(golden: Golden, found: Mapping[str, np.ndarray | Partial]) -> str | None:
    """A sentence on the first of the token ids and positions that is not the golden's."""
    P = golden.about["prompt_tokens"]
    for name in "token_ids", "positions":
        if not isinstance(x := found.get(name), np.ndarray):
            continue
        expected = golden.inputs[name].reshape(-1, len(golden.inputs["token_ids"]))  # [1 or 3, T]
        if x.size % len(expected):
            return f"{name}: shape {list(x.shape)} should be {list(golden.inputs[name].shape)}"
        x = x.reshape(len(expected), -1)  # a batch of one may stand before them, or among them
        length = min(x.shape[1], expected.shape[1])
        wrong = np.flatnonzero((x[:, :length] != expected[:, :length]).any(0))
        if wrong.size:
            at = int(wrong[0])
            ours, theirs = (y[:, at].squeeze().tolist() for y in (expected, x))
            return f"{name}: of token {at}: {theirs} should be {ours}"
        if x.shape[1] not in (P, expected.shape[1]):
            return (
                f"{name}: there are {x.shape[1]}, and should be {P} (the prompt alone) or {expected.shape[1]}"
            )
    return None


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))
