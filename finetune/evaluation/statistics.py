"""What a figure from a sample is worth: intervals and paired tests, in NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
_AT_ONCE = 2_000_000  # of the numbers of a bootstrap, those that are in memory together


class Interval(NamedTuple):
    """From `low` to `high`, both included."""

    low: float
    high: float


def wilson(successes: float, trials: int, level: float = LEVEL) -> Interval:
    """The score interval of a share (Wilson, JASA 22, 1927); 0 to 1 of no trials.

    `successes` need not be whole: half a win is one. Raises ValueError for a share outside
    of 0 to 1.
    """
    if trials == 0:
        return Interval(0.0, 1.0)
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no share")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, n = successes / trials, float(trials)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At both ends rounding would leave an interval that does not hold the share itself.
    return Interval(min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p of McNemar's test: were the questions that one alone answered rightly
    as likely to be the other's? (McNemar, Psychometrika 12, 1947; the binomial distribution in
    place of chi-square, which few questions do not follow.) 1.0 where they agree on all."""
    trials = only_first + only_second
    fewer = min(only_first, only_second)
    # log(n choose k) - n log 2, which no number of questions brings to overflow.
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        for k in range(fewer + 1)
    ]
    tail = math.fsum(math.exp(log - trials * math.log(2)) for log in logs)
    return min(1.0, 2 * tail)


def ratio_bootstrap(
    numerators: Sequence[float] | np.ndarray,
    denominators: Sequence[float] | np.ndarray,
    *,
    level: float = LEVEL,
    samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The percentile interval of sum(numerators) / sum(denominators), an entry of each for every
    cluster, when clusters are drawn anew with replacement (Efron and Tibshirani, An Introduction
    to the Bootstrap, 1993, chapter 13; whole clusters as in Davison and Hinkley, 1997, 3.8).

    The same seed gives the same interval. Infinite with fewer than two clusters, which say
    nothing of the spread. Raises ValueError for lengths that differ, or where a sum of
    denominators is 0.
    """
    top, bottom = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if top.shape != bottom.shape or top.ndim != 1:
        raise ValueError(f"{top.shape} numerators and {bottom.shape} denominators")
    count = len(top)
    if count < 2:
        return Interval(-math.inf, math.inf)
    random = np.random.default_rng(seed)
    ratios = np.empty(samples)
    step = max(1, _AT_ONCE // count)
    for start in range(0, samples, step):
        drawn = random.integers(count, size=(min(step, samples - start), count))
        sums = bottom[drawn].sum(axis=1)
        if not sums.all():
            raise ValueError("a sum of denominators is 0")
        ratios[start : start + len(drawn)] = top[drawn].sum(axis=1) / sums
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def mean_bootstrap(
    values: Sequence[float] | np.ndarray,
    *,
    level: float = LEVEL,
    samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The percentile interval of the mean of `values`, as `ratio_bootstrap` has it."""
    array = np.asarray(values, np.float64)
    return ratio_bootstrap(array, np.ones_like(array), level=level, samples=samples, seed=seed)
