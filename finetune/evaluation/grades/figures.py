"""Mean grades of contenders, with intervals over prompts, and what sets each apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from openchat_local.finetune.evaluation.grades.graded import GradedTurn
from openchat_local.finetune.evaluation.statistics import Interval, ratio_bootstrap

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean grade of `graded` of `answers` answers (nan of none), and its interval: prompts
    are what is drawn anew, since the turns of one are alike."""

    answers: int
    graded: int
    mean: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much a contender is graded higher than the first, over the `answers` that both
    have a grade on; nan of none."""

    answers: int
    difference: float
    interval: Interval

    @property
    def by_chance(self) -> bool:
        """Whether 0 lies within the interval."""
        return not (self.interval.low > 0 or self.interval.high < 0)


@dataclass(frozen=True, slots=True)
class ContenderFigures:
    """`turns` and `categories` are by name, in the order of the prompts; `tokens` the mean
    length of the answers; `against_first` None for the first."""

    label: str
    all: Mean
    turns: dict[int, Mean]
    categories: dict[str, Mean]
    tokens: float
    cut: int
    against_first: Difference | None


def figures_of(graded: Sequence[GradedTurn], labels: Sequence[str]) -> list[ContenderFigures]:
    """The figures of each contender, in the order of `labels`."""
    found = []
    for number, label in enumerate(labels):
        own = [one for one in graded if one.of.contender == number]
        found.append(
            ContenderFigures(
                label,
                _mean(own),
                _split(own, lambda one: one.of.turn + 1),
                _split(own, lambda one: one.of.prompt.category),
                float(np.mean([one.of.answer.tokens for one in own])) if own else math.nan,
                sum(one.of.answer.cut for one in own),
                _difference([one for one in graded if one.of.contender == 0], own)
                if number
                else None,
            )
        )
    return found


def _split(own: Sequence[GradedTurn], name: Callable[[GradedTurn], Name]) -> dict[Name, Mean]:
    parts: dict[Name, list[GradedTurn]] = {}
    for one in own:
        parts.setdefault(name(one), []).append(one)
    return {key: _mean(part) for key, part in parts.items()}


def _mean(own: Sequence[GradedTurn]) -> Mean:
    grades = [(one.of.prompt.digest, one.grade.grade) for one in own if one.grade.grade is not None]
    mean, interval = _clustered(grades)
    return Mean(len(own), len(grades), mean, interval)


def _difference(first: Sequence[GradedTurn], own: Sequence[GradedTurn]) -> Difference:
    grades = {(one.of.prompt.digest, one.of.turn): one.grade.grade for one in first}
    changes = []
    for one in own:
        before = grades.get((one.of.prompt.digest, one.of.turn))
        if before is not None and one.grade.grade is not None:
            changes.append((one.of.prompt.digest, one.grade.grade - before))
    return Difference(len(changes), *_clustered(changes))


def _clustered(values: Sequence[tuple[str, float]]) -> tuple[float, Interval]:
    """The mean of values, and its interval when whole prompts are drawn anew."""
    if not values:
        return math.nan, Interval(math.nan, math.nan)
    sums: dict[str, list[float]] = {}
    for prompt, value in values:
        sums.setdefault(prompt, []).append(value)
    totals, counts = [sum(own) for own in sums.values()], [len(own) for own in sums.values()]
    return sum(totals) / sum(counts), ratio_bootstrap(totals, counts)
