"""How sure a share or a mean is, and a difference of two models on the same samples.

Intervals are of 95 %: Wilson's (1927) for shares of right answers; for means 10,000 resamples (Efron's
percentile bootstrap). Differences, pair by pair: McNemar's test in its exact form for right and wrong, with
Agresti and Min's interval (2005); for means the sign-flip test (Fisher's randomization), with the normal
interval. All draws are the same in every run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Interval = tuple[float, float]

Z = 1.959963984540054  # of the normal distribution 2.5 % lie above
Z_POWER = 0.8416212335729143  # and 20 % above this: a difference is to be found four times of five
LEVEL = 0.05  # p below this: the difference is known
RESAMPLES = 10_000
FLIPS = 100_000  # drawn where there are more than 2**MOST_EXACT
MOST_EXACT = 16
MOST_NUMBERS = 1 << 22  # in memory at a time


def wilson(right: float, n: int) -> Interval:
    """Of n answers, `right` of them right."""
    p, z2 = right / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(values: np.ndarray) -> Interval:
    """values [n] -> where the means of 95 % of the resamples lie."""
    n, random, means = len(values), np.random.default_rng(0), list[np.ndarray]()
    some = max(1, MOST_NUMBERS // n)
    for start in range(0, RESAMPLES, some):
        drawn = random.integers(0, n, (min(some, RESAMPLES - start), n))
        means.append(values[drawn].mean(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def interval(values: np.ndarray, shares: bool) -> Interval:
    """Of the mean of values [n] in 0 to 1; `shares` if each is 0 or 1.

    Where all are the same, resamples would know nothing else: then Wilson's, which is the widest that numbers
    from 0 to 1 can have.
    """
    if shares or (values == values[0]).all():
        return wilson(float(values.sum()), len(values))
    return bootstrap(values)


@dataclass(frozen=True)
class Comparison:
    """The second of two models beside the first, on n samples.

    difference  of the means, second - first, and its interval; better, worse: so many samples
    p           how often a difference at least as large comes by chance; `test` says by which test
    needed      samples that would show it (four times of five), were the true difference the one seen
    visible     the difference that would be found four times of five with these n samples
    """

    n: int
    difference: float
    interval: Interval
    better: int
    worse: int
    p: float
    test: str
    needed: int | None
    visible: float | None

    @property
    def known(self) -> bool:
        return self.p < LEVEL


def compare(first: np.ndarray, second: np.ndarray, shares: bool) -> Comparison:
    """Scores [n] of two models on the same samples, `shares` if each is 0 or 1."""
    d = np.round(second - first, 9)  # sums in another order are no difference
    n, mean, square = len(d), float(d.mean()), float((d * d).mean())
    better, worse = int((d > 0).sum()), int((d < 0).sum())
    if shares:
        p, test, between = mcnemar(better, worse), "McNemar, exact", agresti_min(better, worse, n)
    else:
        p, test = sign_flip(d), "sign-flip"
        between = normal(d) if better + worse else agresti_min(0, 0, n)
    needed = max(samples_needed(mean, square), n + 1 if p >= LEVEL else 0) if mean else None
    visible = min(1.0, (Z + Z_POWER) * math.sqrt(square / n)) if square else None
    return Comparison(n, mean, between, better, worse, p, test, needed, visible)


def mcnemar(better: int, worse: int) -> float:
    """p, two-sided, of so many samples that only one or only the other has right: each side is as likely as
    the other, if the models are equally good."""
    n, few = better + worse, min(better, worse)
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(few + 1)]
    tail = math.fsum(math.exp(log - n * math.log(2)) for log in logs)
    return min(1.0, 2 * tail)


def agresti_min(better: int, worse: int, n: int) -> Interval:
    """Of (better - worse) / n: Wald's, with half a sample more in each of the four cells."""
    b, c, total = better + 0.5, worse + 0.5, n + 2
    half = Z * math.sqrt(b + c - (b - c) ** 2 / total) / total
    return max(-1.0, (b - c) / total - half), min(1.0, (b - c) / total + half)


def normal(d: np.ndarray) -> Interval:
    """Of the mean of differences d [n], which lie in -1 to 1."""
    half = Z * float(d.std(ddof=1)) / math.sqrt(len(d)) if len(d) > 1 else 2.0
    return max(-1.0, float(d.mean()) - half), min(1.0, float(d.mean()) + half)


def sign_flip(d: np.ndarray) -> float:
    """p, two-sided, of differences [n]: were the models equally good, each sign might as well be the other.
    All flips of up to 16 that are not 0, and else 100,000 drawn ones beside the one that was seen."""
    d = d[d != 0]
    reached = abs(float(d.sum())) * (1 - 1e-9)  # sums of the same numbers round differently
    if len(d) <= MOST_EXACT:
        sums = np.zeros(1)
        for value in d:
            sums = np.concatenate([sums + value, sums - value])
        return float((np.abs(sums) >= reached).mean())
    random, count, some = np.random.default_rng(0), 1, max(1, MOST_NUMBERS // len(d))
    for start in range(0, FLIPS, some):
        signs = random.integers(0, 2, (min(some, FLIPS - start), len(d))) * 2 - 1
        count += int((np.abs(signs @ d) >= reached).sum())
    return count / (FLIPS + 1)


def samples_needed(mean: float, square: float) -> int:
    """So many show a difference of this mean and mean square, at 5 %, four times of five (Connor 1987, whose
    square is the share of samples that only one of the two has right)."""
    root = Z * math.sqrt(square) + Z_POWER * math.sqrt(max(square - mean * mean, 0.0))
    return math.ceil((root / mean) ** 2)
