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
POWER = 0.8  # a difference is to be found four times of five
Z_POWER = 0.8416212335729143  # of the normal distribution 20 % lie above
LEVEL = 0.05  # p below this: the difference is known
RESAMPLES = 10_000
FLIPS = 100_000  # drawn where there are more than 2**MOST_EXACT
MOST_EXACT = 16
MOST_PAIRS = 2000  # that only one of two has right: of more, power is the normal distribution's
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
    visible     the difference that would be found four times of five with these n samples, if there is one
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
    share = (better + worse) / n
    needed = max(samples_needed(mean, square, share), n + 1 if p >= LEVEL else 0) if mean else None
    visible = visible_with(n, square, share) if share else None
    return Comparison(n, mean, between, better, worse, p, test, needed, visible)


def mcnemar(better: int, worse: int) -> float:
    """p, two-sided, of so many samples that only one or only the other has right: each side is as likely as
    the other, if the models are equally good."""
    n, few = better + worse, min(better, worse)
    return min(1.0, 2 * math.fsum(chance(n, k, 0.5) for k in range(few + 1)))


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


def samples_needed(mean: float, square: float, share: float) -> int:
    """So many show a difference of this mean and mean square, at p < 0.05, four times of five; `share` of the
    differences are not 0. That many have a power of 0.8 or more, and one less has not.

    Of right and wrong, the power is that of McNemar's exact test. Sign flips are that test where all
    differences are of one size; for others those are taken that have the same mean, mean square and share.
    """
    even = abs(mean) * math.sqrt(share / square)  # were each that is not 0 either 1 or -1
    root = Z * math.sqrt(share) + Z_POWER * math.sqrt(max(share - even * even, 0.0))
    about = (root / even) ** 2  # Connor 1987
    if about * share > MOST_PAIRS:
        return math.ceil(about + 2 / even)  # what a test that goes by whole samples loses
    low, high = 0, math.ceil(about)
    while power(high, even, share) < POWER:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, even, share) >= POWER else (middle, high)
    return high


def visible_with(n: int, square: float, share: float) -> float | None:
    """The mean difference that n samples show four times of five, if `share` of the differences, or as many
    as it takes, are not 0, and those are of the size that was seen; None if even the largest is too small."""
    size = math.sqrt(square / share)
    if n * share > MOST_PAIRS:
        return min(1.0, (Z + Z_POWER) * math.sqrt(square / n))
    if power(n, 1.0, 1.0) < POWER:
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if power(n, middle, max(share, middle)) >= POWER else (middle, high)
    return high * size


def power(n: int, mean: float, share: float) -> float:
    """How often McNemar's exact test finds that one of two models is better (p < 0.05), by n samples of which
    only one has a `share` right, and the better one `mean` more of all than the other."""
    most = min(n, math.ceil(n * share + 10 * math.sqrt(n * share) + 10))  # beyond it there is nothing to add
    few = max(0.0, (1 - mean / share) / 2)
    return math.fsum(chance(n, m, share) * found for m, found in enumerate(found_of(few, most)))


def found_of(few: float, most: int) -> list[float]:
    """How often the test finds it by 0, 1 … most samples that only one of the two has right, each of which
    with probability `few` is the worse one's."""
    found, limit = [0.0], -1  # of the worse one's samples: up to so many, p is below 0.05
    by_chance = truly = 0.0  # probabilities of `limit` or fewer, for models equally good, and for these
    for m in range(1, most + 1):
        if limit >= 0:
            by_chance -= chance(m - 1, limit, 0.5) / 2
            truly -= chance(m - 1, limit, few) * few
        if 2 * (by_chance + chance(m, limit + 1, 0.5)) < LEVEL:
            limit += 1
            by_chance += chance(m, limit, 0.5)
            truly += chance(m, limit, few)
        found.append(truly)
    return found


def chance(n: int, k: int, p: float) -> float:
    """Binomial: of n exactly k, each with probability p."""
    if p in (0, 1):
        return float(k == n * p)
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(p) + (n - k) * math.log1p(-p))
