"""From votes to figures: how often A was preferred, whether that may be chance, and length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from openchat_local.finetune.evaluation.compare.length_control import (
    LengthControlled,
    length_controlled,
)
from openchat_local.finetune.evaluation.compare.pairs import Dialogue, Outcome, Pair
from openchat_local.finetune.evaluation.statistics import (
    Interval,
    mcnemar,
    mean_bootstrap,
    wilson,
)

_PREFERENCE: dict[Outcome | None, float] = {"a": 1.0, "tie": 0.5, "b": 0.0}


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair and what came of it: None where its judge came to no verdict, and `error` says why.

    `why` is a judge's reason, and `orders` what it said of the pair as shown and swapped.
    `preference`, from 0 to 1, is how likely it finds A's answer the better one, where it says.
    """

    pair: Pair
    outcome: Outcome | None
    why: str = ""
    error: str | None = None
    orders: tuple[str | None, ...] = ()
    preference: float | None = None


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often A's answers were preferred to B's, from 0 to 1: a win counts 1, a tie ½; where
    both were bad nobody was preferred, and the pair does not count. None and no interval where
    no pair counts. The interval is of 95 %, from resampled prompts."""

    wins: int
    losses: int
    ties: int
    both_bad: int
    rate: float | None
    interval: Interval | None

    @property
    def counted(self) -> int:
        return self.wins + self.losses + self.ties


@dataclass(frozen=True, slots=True)
class Preference:
    """The mean of a judge's preferences for A, over the prompts where it told one."""

    mean: float
    interval: Interval
    prompts: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Means an answer, over all turns of a dialogue: of A, of B, and of those preferred and not
    (None where none was)."""

    a: float
    b: float
    preferred: float | None
    other: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """All that a comparison comes to.

    `sign_test` is the two-sided probability of as uneven wins and losses, were both equally
    good; `length_controlled` a sentence where it cannot be told. `same` pairs had equal answers
    (they are among the ties), `cut` are how many of A's and B's answers were not done.
    """

    overall: WinRate
    categories: tuple[tuple[str, WinRate], ...]
    sign_test: float
    characters: Lengths
    tokens: Lengths
    length_controlled: LengthControlled | str
    preference: Preference | None
    skipped: int
    failed: int
    same: int
    cut: tuple[int, int]


def figures_of(judged: Sequence[Judged]) -> Figures:
    """The figures of at least one pair."""
    overall = win_rate(judged)
    counted = [each for each in judged if each.outcome in _PREFERENCE]
    return Figures(
        overall,
        tuple(_by_category(judged)),
        mcnemar(overall.wins, overall.losses),
        _lengths(judged, characters),
        _lengths(judged, tokens),
        length_controlled(
            np.array([_PREFERENCE[each.outcome] for each in counted]),
            np.array([characters(each.pair.a) for each in counted]),
            np.array([characters(each.pair.b) for each in counted]),
        ),
        _preference([each.preference for each in judged if each.preference is not None]),
        skipped=sum(each.outcome == "skip" for each in judged),
        failed=sum(each.outcome is None for each in judged),
        same=sum(each.pair.same for each in judged),
        cut=(_cut([each.pair.a for each in judged]), _cut([each.pair.b for each in judged])),
    )


def win_rate(judged: Sequence[Judged]) -> WinRate:
    """That of A over B."""
    counts = Counter(each.outcome for each in judged)
    values = [_PREFERENCE[each.outcome] for each in judged if each.outcome in _PREFERENCE]
    rate = float(np.mean(values)) if values else None
    return WinRate(
        counts["a"], counts["b"], counts["tie"], counts["both bad"], rate, _interval(values)
    )


def _preference(values: Sequence[float]) -> Preference | None:
    if len(values) < 2:
        return None
    return Preference(float(np.mean(values)), mean_bootstrap(values), len(values))


def characters(dialogue: Dialogue) -> int:
    """How long it is: the one unit in which two models' answers can be compared."""
    return sum(len(answer.text) for answer in dialogue)


def tokens(dialogue: Dialogue) -> int:
    """How long it is in its own model's tokens."""
    return sum(answer.tokens for answer in dialogue)


def _interval(values: Sequence[float]) -> Interval | None:
    if not values:
        return None
    if len(set(values)) == 1:  # resampled, they would be certain
        return wilson(sum(values), len(values))
    return mean_bootstrap(np.array(values))


def _by_category(judged: Sequence[Judged]) -> Iterator[tuple[str, WinRate]]:
    names = dict.fromkeys(each.pair.prompt.category for each in judged)
    if len(names) > 1:
        for name in names:
            yield name, win_rate([each for each in judged if each.pair.prompt.category == name])


def _lengths(judged: Sequence[Judged], length: Callable[[Dialogue], int]) -> Lengths:
    preferred: list[int] = []
    other: list[int] = []
    for each in judged:
        if each.outcome in ("a", "b"):
            won, lost = (each.pair.a, each.pair.b)[:: 1 if each.outcome == "a" else -1]
            preferred.append(length(won))
            other.append(length(lost))
    return Lengths(
        float(np.mean([length(each.pair.a) for each in judged])),
        float(np.mean([length(each.pair.b) for each in judged])),
        float(np.mean(preferred)) if preferred else None,
        float(np.mean(other)) if other else None,
    )


def _cut(dialogues: Sequence[Dialogue]) -> int:
    return sum(any(answer.cut for answer in dialogue) for dialogue in dialogues)
