"""From grades to rewards: how much more a good answer counts, chosen and shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from openchat_local.finetune.evaluation.judging.grading import HIGHEST, LOWEST
from openchat_local.models.errors import OpenChatError

EXAMPLES = "linear, min-max, exp=2 or thresholds=8:1,5:0.3,0:0"
_MOST = 1e6  # what `finetune` takes as a reward


class RewardError(OpenChatError):
    """Words that say no mapping from grades to rewards."""


class RewardRule(Protocol):
    """Rewards from 0 up, a higher grade never worth less. `formula` shows the rule."""

    @property
    def formula(self) -> str: ...

    def rewards(self, grades: Sequence[float]) -> list[float]:
        """The reward of each grade among all of them; not empty."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A grade of 10 is worth 1, one of 5 half of it."""

    formula: str = "grade / 10"

    def rewards(self, grades: Sequence[float]) -> list[float]:
        return [grade / HIGHEST for grade in grades]


@dataclass(frozen=True, slots=True)
class MinMax:
    """The worst answers of the file are worth nothing, the best 1; 1 each where all are equal."""

    formula: str = "(grade - lowest) / (highest - lowest), of the grades in this file"

    def rewards(self, grades: Sequence[float]) -> list[float]:
        lowest, span = min(grades), max(grades) - min(grades)
        return [(grade - lowest) / span if span else 1.0 for grade in grades]


@dataclass(frozen=True, slots=True)
class Exponential:
    """The weight that the optimal policy of the paper's theory gives: exp(r / beta), up to a
    factor, which the loss divides out (arXiv 2309.11235, section 3.2). The best is worth 1."""

    beta: float

    @property
    def formula(self) -> str:
        return f"exp((grade - highest in this file) / {self.beta:g})"

    def rewards(self, grades: Sequence[float]) -> list[float]:
        highest = max(grades)
        return [math.exp((grade - highest) / self.beta) for grade in grades]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From each grade of `steps` on, highest first, the reward beside it."""

    steps: tuple[tuple[float, float], ...]

    @property
    def formula(self) -> str:
        return ", ".join(f"from {grade:g} on {reward:g}" for grade, reward in self.steps)

    def rewards(self, grades: Sequence[float]) -> list[float]:
        floors = np.array([grade for grade, _ in self.steps])
        return [self.steps[int(np.argmax(floors <= grade))][1] for grade in grades]


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
        return _thresholds(value, text)
    raise RewardError(f"{text!r} is no way from grades to rewards: give {EXAMPLES}.")


def _thresholds(value: str, text: str) -> Thresholds:
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
    if grades[-1] > LOWEST:
        raise RewardError(
            f"{text!r} gives no reward to grades below {grades[-1]:g}: add one for the lowest, "
            "such as 0:0."
        )
    return Thresholds(tuple(steps))


def _number(text: str, whole: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RewardError(f"{text.strip()!r} in {whole!r} is not a number: give {EXAMPLES}.")
    return number
