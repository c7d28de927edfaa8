"""From grades or scores to rewards: how much more a good answer counts, chosen and shown."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from openchat_local.models.errors import OpenChatError

EXAMPLES = "linear, min-max, exp=2, thresholds=8:1,5:0.3,0:0 or points such as 0:0,10:1"
LOWEST, HIGHEST = 1, 10  # that a judge gives
_MOST = 1e6  # what `finetune` takes as a reward


class RewardError(OpenChatError):
    """Words that say no mapping from grades to rewards."""


class RewardRule(ABC):
    """Rewards from 0 up, a higher grade never worth less. `formula` shows the rule."""

    needs_range = True
    """Whether a reward hangs on the lowest and the highest grade of all."""

    @property
    @abstractmethod
    def formula(self) -> str:
        """In words."""

    @abstractmethod
    def reward(self, grade: float, lowest: float, highest: float) -> float:
        """What a grade is worth among others that go from `lowest` to `highest`."""

    def rewards(self, grades: Sequence[float]) -> list[float]:
        """The reward of each grade among all of them; not empty."""
        lowest, highest = min(grades), max(grades)
        return [self.reward(grade, lowest, highest) for grade in grades]


@dataclass(frozen=True, slots=True)
class Linear(RewardRule):
    """A grade of 10 is worth 1, one of 5 half of it."""

    needs_range = False
    formula = "grade / 10"

    def reward(self, grade: float, lowest: float, highest: float) -> float:
        return grade / HIGHEST


@dataclass(frozen=True, slots=True)
class MinMax(RewardRule):
    """The worst answers of the file are worth nothing, the best 1; 1 each where all are equal."""

    formula = "(grade - lowest) / (highest - lowest), of the grades in this file"

    def reward(self, grade: float, lowest: float, highest: float) -> float:
        span = highest - lowest
        return min(max((grade - lowest) / span, 0.0), 1.0) if span else 1.0


@dataclass(frozen=True, slots=True)
class Exponential(RewardRule):
    """The weight that the optimal policy of the paper's theory gives: exp(r / beta), up to a
    factor, which the loss divides out (arXiv 2309.11235, section 3.2). The best is worth 1."""

    beta: float

    @property
    def formula(self) -> str:
        return f"exp((grade - highest in this file) / {self.beta:g})"

    def reward(self, grade: float, lowest: float, highest: float) -> float:
        return math.exp(min(grade - highest, 0.0) / self.beta)


@dataclass(frozen=True, slots=True)
class Thresholds(RewardRule):
    """From each grade of `steps` on, highest first, the reward beside it."""

    steps: tuple[tuple[float, float], ...]
    needs_range = False

    @property
    def formula(self) -> str:
        return ", ".join(f"from {grade:g} on {reward:g}" for grade, reward in self.steps)

    def reward(self, grade: float, lowest: float, highest: float) -> float:
        return next((worth for floor, worth in self.steps if floor <= grade), self.steps[-1][1])


@dataclass(frozen=True, slots=True)
class Points(RewardRule):
    """Straight lines between `points`, each a grade and its reward, lowest first; beyond the
    first and the last, what these are worth."""

    points: tuple[tuple[float, float], ...]
    needs_range = False

    @property
    def formula(self) -> str:
        told = ", ".join(f"{grade:g} is worth {reward:g}" for grade, reward in self.points)
        return f"{told}, straight lines between"

    def reward(self, grade: float, lowest: float, highest: float) -> float:
        for (left, low), (right, high) in pairwise(self.points):
            if grade <= right:
                return low + (high - low) * max(grade - left, 0.0) / (right - left)
        return self.points[-1][1]


def parse_rule(text: str) -> RewardRule:
    """The mapping that `text` says, such as EXAMPLES. Raises RewardError."""
    name, equals, value = text.strip().partition("=")
    name = name.strip().lower()
    if name in ("linear", "min-max") and not equals:
        return Linear() if name == "linear" else MinMax()
    if name == "exp" and equals:
        beta = _number(value, text)
        if beta <= 0:
            raise RewardError(f"The β of {text!r} must be above 0: the smaller, the sharper.")
        return Exponential(beta)
    if name == "thresholds" and equals:
        steps = _steps(value, text)
        if (least := steps[-1][0]) > LOWEST:
            raise RewardError(
                f"{text!r} gives no reward to grades below {least:g}: add one for the lowest, "
                "such as 0:0."
            )
        return Thresholds(tuple(steps))
    if ":" in name and not equals:
        points = _steps(text, text)
        if len(points) < 2:
            raise RewardError(f"{text!r} is one point: give two at least, such as 0:0,10:1.")
        return Points(tuple(reversed(points)))
    raise RewardError(f"{text!r} is no way from grades to rewards: give {EXAMPLES}.")


def _steps(value: str, text: str) -> list[tuple[float, float]]:
    """Grades and their rewards, highest first."""
    steps = []
    for part in value.split(","):
        grade, colon, reward = part.partition(":")
        if not colon:
            raise RewardError(f"{part!r} in {text!r} is not GRADE:REWARD, such as 8:1.")
        steps.append((_number(grade, text), _number(reward, text)))
    steps.sort(reverse=True)
    grades, rewards = zip(*steps, strict=True)
    if len(set(grades)) < len(grades):
        raise RewardError(f"A grade has two rewards in {text!r}: give it one.")
    if not all(0 <= reward <= _MOST for reward in rewards):
        raise RewardError(f"A reward in {text!r} is not a number from 0 to 1,000,000.")
    if list(rewards) != sorted(rewards, reverse=True):
        raise RewardError(f"In {text!r} a higher grade is worth less than a lower one: mend it.")
    return steps


def _number(text: str, whole: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RewardError(f"{text.strip()!r} in {whole!r} is not a number: give {EXAMPLES}.")
    return number
