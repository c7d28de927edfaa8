"""What came out: losses of every row, and how far each is from the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from openchat_local.finetune.evaluation.ablation.measuring import Measured
from openchat_local.finetune.evaluation.statistics import Interval, ratio_bootstrap


@dataclass(frozen=True, slots=True)
class Loss:
    """Nats a token, the mean over seeds and that of each seed."""

    value: float
    seeds: tuple[float, ...]

    @property
    def spread(self) -> float:
        """From the lowest seed to the highest."""
        return max(self.seeds) - min(self.seeds)


@dataclass(frozen=True, slots=True)
class Difference:
    """One loss minus another, nats a token: below 0, the first predicts better. `interval` is over
    conversations, `seeds` has the difference within each seed."""

    value: float
    interval: Interval
    seeds: tuple[float, ...]

    @property
    def certain(self) -> bool:
        """Whether neither other conversations nor, as far as was tried, other seeds would turn it
        around."""
        apart = self.interval.low > 0 or self.interval.high < 0
        return apart and (min(self.seeds) > 0 or max(self.seeds) < 0)


class Losses:
    """What was measured, by the name of a row: its runs, a seed each."""

    def __init__(self, classes: np.ndarray, runs: Mapping[str, Sequence[Measured]]) -> None:
        """`classes` (conversations,) are the class indices of the held-out conversations."""
        self._classes = classes
        self._runs = runs

    def runs(self) -> Mapping[str, Sequence[Measured]]:
        """What each row was measured to be, conversation by conversation."""
        return self._runs

    def conversations(self, row: str, class_index: int) -> tuple[int, int]:
        """How many of a class were measured, and the tokens of their answers."""
        tokens = self._of(row, 0, class_index)[0][:, 1]
        return int(np.count_nonzero(tokens)), int(tokens.sum())

    def loss(self, row: str, condition: int, class_index: int) -> Loss:
        """Of the answers of a class under a condition; every token counts alike."""
        seeds = tuple(_ratio(sums) for sums in self._of(row, condition, class_index))
        return Loss(math.fsum(seeds) / len(seeds), seeds)

    def difference(self, row: str, other: str, condition: int, class_index: int) -> Difference:
        """A row minus another, paired by conversation and by seed where both have several."""
        return self._difference((row, condition), (other, condition), class_index)

    def of_condition(self, row: str, condition: int, other: int, class_index: int) -> Difference:
        """A row under `condition` minus the same under another one."""
        return self._difference((row, condition), (row, other), class_index)

    def _difference(
        self, one: tuple[str, int], other: tuple[str, int], class_index: int
    ) -> Difference:
        first, second = (self._of(*which, class_index) for which in (one, other))
        tokens = first[0][:, 1]
        mean = np.mean([sums[:, 0] for sums in first], 0)
        mean = mean - np.mean([sums[:, 0] for sums in second], 0)
        many = max(len(first), len(second))
        pairs = zip(_each(first, many), _each(second, many), strict=True)
        return Difference(
            float(mean.sum() / tokens.sum()),
            ratio_bootstrap(mean, tokens),
            tuple(_ratio(a) - _ratio(b) for a, b in pairs),
        )

    def _of(self, row: str, condition: int, class_index: int) -> list[np.ndarray]:
        """A seed each: (conversations of the class, 2), nats and tokens."""
        own = self._classes == class_index
        for sums in self._runs[row][0].values():
            own = own & (sums[:, 1] > 0)
        return [run[condition][own] for run in self._runs[row]]


def _each(runs: list[np.ndarray], many: int) -> list[np.ndarray]:
    return runs if len(runs) == many else [runs[0]] * many  # the base model has no seeds


def _ratio(sums: np.ndarray) -> float:
    return float(sums[:, 0].sum() / sums[:, 1].sum())
