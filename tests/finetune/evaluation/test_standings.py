"""Strengths from duels, held against a published table and against the model itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.finetune.evaluation.standings import Duel, Standing, bradley_terry, chance

# The American League's East in 1987, every two teams 13 times (Agresti, Categorical Data Analysis,
# 2nd edition, table 10.10): how often the row's team beat the column's.
TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
WINS = (
    (0, 7, 9, 7, 7, 9, 11),
    (6, 0, 7, 5, 11, 9, 9),
    (4, 6, 0, 7, 7, 8, 12),
    (6, 8, 6, 0, 6, 7, 10),
    (6, 2, 6, 7, 0, 7, 12),
    (4, 4, 5, 6, 6, 0, 6),
    (2, 4, 1, 3, 1, 7, 0),
)
STRENGTHS = (1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0.0)  # table 10.11, above Baltimore's


def baseball() -> Iterator[Duel[str]]:
    for i, j in itertools.permutations(range(len(TEAMS)), 2):
        yield from [Duel(TEAMS[i], TEAMS[j], "first")] * WINS[i][j]


def by_label(found: list[Standing[str]]) -> dict[str, Standing[str]]:
    return {one.label: one for one in found}


def test_without_a_prior_they_are_the_published_ones() -> None:
    found = bradley_terry(list(baseball()), spread=math.inf)
    assert [one.label for one in found] == list(TEAMS)
    last = found[-1].strength
    assert [round(one.strength - last, 2) for one in found] == list(STRENGTHS)
    assert (found[0].wins, found[0].losses, found[0].ties, found[0].duels) == (50, 28, 0, 78)
    assert sum(one.strength for one in found) == pytest.approx(0, abs=1e-9)


def test_intervals_are_those_of_the_second_derivatives() -> None:
    """By differences of the likelihood instead of the formula."""
    wins = np.array(WINS, float)

    def likelihood(s: np.ndarray) -> float:
        return float((wins * -np.logaddexp(0, s[None, :] - s[:, None])).sum())

    found = by_label(bradley_terry(list(baseball()), spread=math.inf))
    at = np.array([found[team].strength for team in TEAMS])
    step, n = 1e-3, len(TEAMS)
    units = np.eye(n) * step
    hessian = np.array(
        [
            [
                (likelihood(at + a + b) - likelihood(at + a - b) - likelihood(at - a + b)
                 + likelihood(at - a - b)) / (4 * step * step)
                for b in units
            ]
            for a in units
        ]
    )  # fmt: skip
    deviations = np.sqrt(np.diag(np.linalg.pinv(-hessian, rcond=1e-6)))
    for team, deviation in zip(TEAMS, deviations, strict=True):
        low, high = found[team].interval
        assert (high - low) / 2 == pytest.approx(1.959964 * deviation, rel=1e-3)


SIDES = st.sampled_from("abcde")
OUTCOMES = st.sampled_from(["first", "second", "tie"])
DUELS = st.lists(st.builds(Duel, SIDES, SIDES, OUTCOMES), max_size=40)


@settings(max_examples=30)
@given(DUELS)
def test_they_are_where_nothing_is_likelier(duels: list[Duel[str]]) -> None:
    """The maximum of a concave function is where its slope is 0; that of every side is checked
    from the duels themselves, and finite also where a side only won."""
    found = by_label(bradley_terry(duels))
    groups = {
        group: np.mean([one.strength for one in found.values() if one.group == group])
        for group in {one.group for one in found.values()}
    }
    assert all(abs(mean) < 1e-9 for mean in groups.values())
    scores = {"first": 1.0, "second": 0.0, "tie": 0.5}
    for label, one in found.items():
        slope = -one.strength / 1.5**2
        for duel in duels:
            if label in (duel.first, duel.second) and duel.first != duel.second:
                gap = found[duel.first].strength - found[duel.second].strength
                missed = scores[duel.outcome] - 1 / (1 + math.exp(-gap))
                slope += missed if label == duel.first else -missed
        assert slope == pytest.approx(0, abs=1e-6)
        assert math.isfinite(one.interval.low)
        assert one.interval.low < one.strength < one.interval.high
        assert one.duels == sum(
            label in (duel.first, duel.second) and duel.first != duel.second for duel in duels
        )


@settings(max_examples=20)
@given(DUELS)
def test_the_order_of_votes_and_of_sides_does_not_matter(duels: list[Duel[str]]) -> None:
    turned = {"first": "second", "second": "first", "tie": "tie"}
    mirrored = [Duel(d.second, d.first, turned[d.outcome]) for d in reversed(duels)]  # type: ignore[arg-type]
    one, other = by_label(bradley_terry(duels)), by_label(bradley_terry(mirrored))
    assert one.keys() == other.keys()
    for label, standing in one.items():
        assert standing.strength == pytest.approx(other[label].strength, abs=1e-6)
        assert standing.interval == pytest.approx(other[label].interval, abs=1e-6)


def test_a_side_that_only_won_is_finite_and_more_votes_say_more() -> None:
    few, many = (bradley_terry([Duel("a", "b", "first")] * count) for count in (2, 50))
    assert 0 < few[0].strength < many[0].strength
    assert few[0].interval.low < 0 < many[0].interval.low
    assert many[0].share > 0.8
    assert many[0].share_interval.low == pytest.approx(chance(many[0].interval.low))
    with pytest.raises(ValueError, match=r"strength|ingular"):
        bradley_terry([Duel("a", "b", "first")], spread=math.inf)


def test_who_never_met_is_in_another_group() -> None:
    found = bradley_terry(
        [Duel("a", "b", "first"), Duel("b", "c", "tie"), Duel("x", "y", "second"),
         Duel("z", "z", "first")]
    )  # fmt: skip
    assert {one.label: one.group for one in found} == {"a": 0, "b": 0, "c": 0, "x": 1, "y": 1}
    assert bradley_terry([]) == []
