"""What grades say of classes: their distributions, and how far these lie apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from openchat_local.finetune.evaluation.judging.grading import HIGHEST, LOWEST
from openchat_local.finetune.evaluation.statistics import Interval, mean_bootstrap

EDGES = tuple(grade - 0.5 for grade in range(LOWEST, HIGHEST + 2))  # a bin for each whole grade
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_SAMPLES = 2000


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """The grades of a class: `answers` were to be graded, `graded` were. `quantiles` are those
    of QUANTILES; `histogram` counts the whole grades, expected ones by the nearest. Every figure
    but the counts is nan without a grade."""

    name: str
    answers: int
    graded: int
    mean: float
    interval: Interval
    least: float
    most: float
    quantiles: tuple[float, ...]
    histogram: tuple[int, ...]

    @property
    def median(self) -> float:
        """Half are not above it."""
        return self.quantiles[QUANTILES.index(0.5)]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two classes. `common` is the share that their histograms have in common (0 to 1, the
    overlap coefficient Σ min(p, q)); `better` how likely an answer of the first has the higher
    grade than one of the second, equal ones counting half (0.5: no telling them apart; Mann and
    Whitney's U over its greatest value); `difference` of the means, first less second, lies in
    `interval`."""

    first: str
    second: str
    common: float
    better: float
    difference: float
    interval: Interval


def class_figures(name: str, answers: int, grades: Sequence[float]) -> ClassFigures:
    """The figures of a class of `answers` answers, of which `grades` have a grade."""
    found = np.asarray(grades, np.float64)
    if not len(found):
        nan = math.nan
        nothing = (nan,) * len(QUANTILES)
        return ClassFigures(
            name, answers, 0, nan, Interval(nan, nan), nan, nan, nothing, (0,) * (len(EDGES) - 1)
        )
    return ClassFigures(
        name,
        answers,
        len(found),
        float(found.mean()),
        mean_bootstrap(found),
        float(found.min()),
        float(found.max()),
        tuple(float(value) for value in np.quantile(found, QUANTILES)),
        tuple(int(count) for count in np.histogram(found, EDGES)[0]),
    )


def overlaps(grades: Mapping[str, Sequence[float]]) -> list[Overlap]:
    """Every two classes that both have grades, those that come first in `grades` first."""
    graded = {name: np.asarray(found, np.float64) for name, found in grades.items() if found}
    return [
        _overlap(first, second, graded[first], graded[second])
        for first, second in itertools.combinations(graded, 2)
    ]


def _overlap(first: str, second: str, a: np.ndarray, b: np.ndarray) -> Overlap:
    shares = [np.histogram(found, EDGES)[0] / len(found) for found in (a, b)]
    order = np.sort(b)
    below = np.searchsorted(order, a, "left")
    equal = np.searchsorted(order, a, "right") - below
    better = float((below + equal / 2).mean() / len(b))
    return Overlap(
        first,
        second,
        float(np.minimum(*shares).sum()),
        better,
        float(a.mean() - b.mean()),
        _difference_interval(a, b),
    )


def _difference_interval(a: np.ndarray, b: np.ndarray) -> Interval:
    """The percentile interval of mean(a) - mean(b), both drawn anew with replacement; infinite
    where one has fewer than two (Efron and Tibshirani, 1993, section 8.3)."""
    if min(len(a), len(b)) < 2:
        return Interval(-math.inf, math.inf)
    random = np.random.default_rng(0)
    drawn = np.array(
        [random.choice(a, len(a)).mean() - random.choice(b, len(b)).mean() for _ in range(_SAMPLES)]
    )
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(low), float(high))
