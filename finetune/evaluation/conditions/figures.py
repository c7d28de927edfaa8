"""From what was read and placed to figures: losses between conditions, divergences, silhouettes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openchat_local.finetune.evaluation.conditions.divergence import Divergence
from openchat_local.finetune.evaluation.conditions.projection import (
    Plane,
    Silhouette,
    principal_components,
    silhouette,
    umap,
)
from openchat_local.finetune.evaluation.conditions.readings import Pair, Readings
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.finetune.evaluation.statistics import (
    Interval,
    mean_bootstrap,
    ratio_bootstrap,
)
from openchat_local.models.library.adapter_file import AdapterCard


@dataclass(frozen=True, slots=True)
class Seen:
    """All that was measured of one contender. `conditions` are those that it was trained under,
    the best first, and `own` has that of each class, in the policy's order; `vectors` are
    (conversations, width) float32, each answer under its class's own condition, and all under
    the best one, `together`."""

    label: str
    is_base: bool
    conditions: tuple[str, ...]
    own: tuple[str, ...]
    readings: Readings
    vectors: np.ndarray
    together: np.ndarray


@dataclass(frozen=True, slots=True)
class Difference:
    """How much the next tokens of one class's answers (of all, where it is None) depend on
    which of two conditions stands before them: means over `tokens`. `interval` is that of the
    Jensen-Shannon divergence `mean.shannon` over conversations, None for fewer than two."""

    label: str
    class_name: str | None
    pair: Pair
    tokens: int
    mean: Divergence
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Spread:
    """Where a contender's answers lie, and how far apart their classes: in all dimensions, and
    in the `plane` that is drawn. None where silhouettes say nothing."""

    label: str
    plane: Plane
    apart: Silhouette | None
    in_plane: Silhouette | None


def own_conditions(answers: Answers, card: AdapterCard | None) -> tuple[str, ...]:
    """The condition of every class, as the adapter with this card was trained; the base's are
    the policy's. A class that the adapter does not know has its best condition."""
    given = tuple(rule.condition for rule in answers.policy.classes)
    if card is None or not card.classes:
        return given
    known = {trained.name: trained.condition for trained in card.classes}
    own = (known.get(rule.name, card.condition) for rule in answers.policy.classes)
    # Those that were asked for instead are not measured.
    return tuple(
        condition if condition in answers.conditions else asked
        for condition, asked in zip(own, given, strict=True)
        if condition is not None
    )


def trained_conditions(answers: Answers, card: AdapterCard | None) -> tuple[str, ...]:
    """Those that the adapter with this card was trained under, the best first; the base's are
    all that are measured."""
    by_reward = sorted(card.classes if card else (), key=lambda one: -one.reward)
    found = dict.fromkeys(one.condition for one in by_reward)
    return tuple(c for c in found if c in answers.conditions) or answers.conditions


def differences(answers: Answers, seen: Seen) -> list[Difference]:
    """For every two conditions: of all answers together, and of each class where there are
    several."""
    names = [rule.name for rule in answers.policy.classes]
    there = [index for index in range(len(names)) if (answers.classes == index).any()]
    chosen: list[tuple[str | None, np.ndarray]] = [(None, np.ones_like(answers.classes, bool))]
    if len(there) > 1:
        chosen += [(names[index], answers.classes == index) for index in there]
    return [
        _difference(seen.label, name, pair, sums[own], answers.tokens[pair[0]][own])
        for pair, sums in seen.readings.between.items()
        for name, own in chosen
    ]


def _difference(
    label: str, name: str | None, pair: Pair, sums: np.ndarray, tokens: np.ndarray
) -> Difference:
    total = int(tokens.sum())
    interval = ratio_bootstrap(sums[:, 2], tokens) if len(tokens) > 1 else None
    mean = Divergence(*(sums.sum(axis=0) / total).tolist())
    return Difference(label, name, pair, total, mean, interval)


def spread(label: str, vectors: np.ndarray, classes: np.ndarray, *, by_umap: bool) -> Spread:
    """Where `vectors` (answers, width) of `classes` (answers,) lie. Raises OpenChatError where
    UMAP cannot be had."""
    plane = umap(vectors) if by_umap else principal_components(vectors)
    return Spread(label, plane, silhouette(vectors, classes), silhouette(plane.points, classes))


def further_apart(base: Spread, other: Spread) -> tuple[float, Interval] | None:
    """How much larger the other's silhouette is, and an interval of that: over answers, each
    one's silhouettes as a pair. None where there are no silhouettes."""
    if base.apart is None or other.apart is None:
        return None
    change = other.apart.each - base.apart.each
    return float(change.mean()), mean_bootstrap(change)


def own_is_together(answers: Answers, all_seen: Sequence[Seen]) -> bool:
    """Whether every answer has the same condition for every contender, so that each under its
    class's own and all under the best are the same thing."""
    best = answers.conditions[0]
    return all(
        seen.own[index] == best for seen in all_seen for index in set(answers.classes.tolist())
    )
