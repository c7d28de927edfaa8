"""From nats of every conversation to the losses of classes and what adapters changed of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.finetune.evaluation.statistics import Interval, ratio_bootstrap

Nats = Mapping[str, np.ndarray]
"""Of one contender: by condition (conversations,) float64, the nats of each one's answers."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a contender makes of the answers of a cell: its `loss`, and how much that is above
    (+) or below (−) the base's, nats a token.

    Both say how much the change would differ with other conversations of the same kind:
    `standard_error` by the formula for a ratio of sums, 0 for fewer than two conversations, and
    `interval`, which holds the true change in 95 of 100 files, by drawing the conversations
    anew; None for fewer than two.
    """

    label: str
    loss: float
    change: float
    standard_error: float
    interval: Interval | None

    @property
    def perplexity(self) -> float:
        """exp of the loss: among how many tokens, all as likely, it would be as unsure."""
        return math.exp(self.loss)

    @property
    def is_told_from_chance(self) -> bool:
        """Whether 0 lies outside of the interval."""
        return self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)


@dataclass(frozen=True, slots=True)
class Cell:
    """The answers of one class under one condition.

    Losses are in nats a token over all judged tokens, every token counting alike; the base's
    `interval` is None for fewer than two conversations. `changes` has one entry a contender
    beside the base.
    """

    class_name: str
    condition: str
    conversations: int
    tokens: int
    base_loss: float
    interval: Interval | None
    changes: tuple[Change, ...] = ()

    @property
    def base_perplexity(self) -> float:
        """exp of the base's loss."""
        return math.exp(self.base_loss)

    def change_of(self, label: str) -> Change:
        """That of the contender with this label. Raises KeyError."""
        for change in self.changes:
            if change.label == label:
                return change
        raise KeyError(label)


def cells_of(answers: Answers, base: Nats, others: Mapping[str, Nats]) -> list[Cell]:
    """Every class under every condition, the best first; `others` are contenders by label."""
    return [
        _cell(
            answers, index, condition, base[condition], {k: n[condition] for k, n in others.items()}
        )
        for index in range(len(answers.policy.classes))
        if (answers.classes == index).any()
        for condition in answers.conditions
    ]


def change_between(label: str, before: np.ndarray, after: np.ndarray, tokens: np.ndarray) -> Change:
    """What changes from the nats of conversations `before` to those `after`, (conversations,)
    float64 each; `tokens` are those that were judged of each.

    The pairs are conversations: the same answers are hard for all contenders, so that most of
    the spread between conversations is not one between changes.
    """
    total = float(tokens.sum())
    change = after - before
    interval = ratio_bootstrap(change, tokens) if len(tokens) > 1 else None
    return Change(
        label,
        float(after.sum()) / total,
        float(change.sum()) / total,
        _standard_error(change, tokens),
        interval,
    )


def _cell(
    answers: Answers, index: int, condition: str, base: np.ndarray, others: Mapping[str, np.ndarray]
) -> Cell:
    own = answers.classes == index
    tokens = answers.tokens[condition][own].astype(np.float64)
    nats = base[own]
    return Cell(
        answers.policy.classes[index].name,
        condition,
        len(tokens),
        int(tokens.sum()),
        float(nats.sum() / tokens.sum()),
        ratio_bootstrap(nats, tokens) if len(tokens) > 1 else None,
        tuple(change_between(label, nats, found[own], tokens) for label, found in others.items()),
    )


def _standard_error(change: np.ndarray, tokens: np.ndarray) -> float:
    """Of a ratio of sums over conversations (Cochran, Sampling Techniques, 3rd edition, section
    6.3): residuals about the common ratio."""
    n, total = len(change), float(tokens.sum())
    if n < 2:
        return 0.0
    residuals = change - change.sum() / total * tokens
    return math.sqrt(n / (n - 1) * float((residuals**2).sum())) / total
