"""Who is how strong, from duels alone: Bradley and Terry's model with intervals, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Generic, Literal, TypeVar

import numpy as np

from openchat_local.finetune.evaluation.statistics import LEVEL, Interval

Side = TypeVar("Side", bound=Hashable)

SPREAD = 1.5
"""How much strengths differ before any duel is known: the standard deviation of a normal prior,
in log odds. Two of three sides are then thought to win between 18 and 82 of 100 duels against an
average one; a side that won its only duel has a finite strength, and hundreds of duels outweigh
it."""
_ENOUGH = 1e-10
_STEPS = 100


@dataclass(frozen=True, slots=True)
class Duel(Generic[Side]):
    """One vote between two sides. A tie is half a win for each."""

    first: Side
    second: Side
    outcome: Literal["first", "second", "tie"]


@dataclass(frozen=True, slots=True)
class Standing(Generic[Side]):
    """How strong a side is among those that it was compared with, directly or through others.

    `strength` is in log odds, 0 for the average of its `group`; `interval` holds the true one in
    95 of 100 cases. Sides of different groups never met, and nothing tells them apart: groups
    are numbered from 0, the largest first.
    """

    label: Side
    strength: float
    interval: Interval
    wins: int
    losses: int
    ties: int
    group: int

    @property
    def duels(self) -> int:
        """How many it was in."""
        return self.wins + self.losses + self.ties

    @property
    def share(self) -> float:
        """The share of duels that it wins against an average side of its group."""
        return chance(self.strength)

    @property
    def share_interval(self) -> Interval:
        """The same for both ends of the interval."""
        return Interval(chance(self.interval.low), chance(self.interval.high))


def bradley_terry(
    duels: Sequence[Duel[Side]], *, spread: float = SPREAD, level: float = LEVEL
) -> list[Standing[Side]]:
    """The standing of every side, the groups one after another, the strongest first.

    i beats j with the probability 1 / (1 + exp(s_j - s_i)) (Bradley and Terry, Biometrika 39,
    1952; maximum likelihood by Newton's method on a concave function, as in Agresti, Categorical
    Data Analysis, 3rd edition, section 11.6). Ties count as half a win for each. A normal prior
    of standard deviation `spread` on every strength keeps sides finite that only won (a ridge;
    infinite for none, which raises ValueError where a side only won). The intervals are normal,
    from the inverse of the second derivatives at the maximum, about each group's average.
    Duels of a side with itself say nothing, and are left out.
    """
    met = [duel for duel in duels if duel.first != duel.second]
    labels = list(dict.fromkeys(side for duel in met for side in (duel.first, duel.second)))
    place = {label: number for number, label in enumerate(labels)}
    wins = np.zeros((len(labels), len(labels)))
    ties = np.zeros_like(wins)
    for duel in met:
        i, j = place[duel.first], place[duel.second]
        if duel.outcome == "tie":
            ties[i, j] += 1
            ties[j, i] += 1
        elif duel.outcome == "first":
            wins[i, j] += 1
        else:
            wins[j, i] += 1
    z = NormalDist().inv_cdf((1 + level) / 2)
    found = []
    for number, group in enumerate(_groups(wins + ties)):
        within = np.ix_(group, group)
        strengths, deviations = _fit(wins[within] + ties[within] / 2, spread)
        for row in np.argsort(-strengths, kind="stable"):
            i, strength, half = group[row], float(strengths[row]), float(z * deviations[row])
            found.append(
                Standing(
                    labels[i],
                    strength,
                    Interval(strength - half, strength + half),
                    int(wins[i].sum()),
                    int(wins[:, i].sum()),
                    int(ties[i].sum()),
                    number,
                )
            )
    return found


def chance(log_odds: float) -> float:
    """The probability with these log odds."""
    return 0.5 * (1 + math.tanh(log_odds / 2))  # which no number overflows


def _groups(met: np.ndarray) -> list[list[int]]:
    """Sides that are joined by duels, (sides, sides), however many steps apart."""
    left = set(range(len(met)))
    groups = []
    while left:
        reached, new = set(), {min(left)}
        while new:
            reached |= new
            new = {int(j) for i in new for j in np.flatnonzero(met[i] + met[:, i])} - reached
        groups.append(sorted(reached))
        left -= reached
    return sorted(groups, key=lambda group: (-len(group), group))


def _fit(wins: np.ndarray, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """The strengths (sides,) and their standard deviations about their mean.

    `wins` (sides, sides) is how often the row's side beat the column's.
    """
    sides = len(wins)
    games = wins + wins.T
    ridge = 0.0 if math.isinf(spread) else spread**-2
    # Only differences are in the likelihood; so pinned, their sum is 0 at the maximum.
    pinned = np.full((sides, sides), 1 / sides)
    strengths = np.zeros(sides)
    for _ in range(_STEPS):
        expected = 1 / (1 + np.exp(np.clip(strengths[None, :] - strengths[:, None], -700, 700)))
        slope = (wins - games * expected).sum(axis=1) - ridge * strengths
        spreads = games * expected * (1 - expected)
        curvature = np.diag(spreads.sum(axis=1) + ridge) - spreads
        step = np.linalg.solve(curvature + pinned, slope)
        # Newton's step may overshoot where nearly all duels went one way.
        strengths = strengths + step / max(1.0, float(np.abs(step).max()) / 2)
        if np.abs(step).max() < _ENOUGH:
            break
    else:
        raise ValueError("a side won or lost everything: without a prior it has no strength")
    centred = np.eye(sides) - pinned
    covariance = centred @ np.linalg.inv(curvature + pinned) @ centred
    return centred @ strengths, np.sqrt(np.diag(covariance).clip(0))
