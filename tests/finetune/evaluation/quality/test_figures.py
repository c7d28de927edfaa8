"""Distributions of grades, and how far they lie apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.evaluation.quality.figures import class_figures, overlaps

GRADES = st.lists(st.integers(1, 10).map(float) | st.floats(1, 10), min_size=1, max_size=25)


def test_figures_by_hand() -> None:
    found = class_figures("gpt4", 7, [10, 8, 8, 6, 1])
    assert (found.answers, found.graded, found.mean, found.median) == (7, 5, 6.6, 8)
    assert (found.least, found.most) == (1, 10)
    assert found.histogram == (1, 0, 0, 0, 0, 1, 0, 2, 0, 1)
    assert found.quantiles == pytest.approx((3, 6, 8, 8, 9.2))
    assert found.interval.low < 6.6 < found.interval.high


def test_an_expected_grade_counts_for_the_nearest_whole_one() -> None:
    histogram = class_figures("c", 4, [1.49, 1.5, 9.49, 9.51]).histogram
    assert histogram == (1, 1, 0, 0, 0, 0, 0, 0, 1, 1)


def test_a_class_without_a_grade_has_no_figure() -> None:
    found = class_figures("c", 3, [])
    assert (found.answers, found.graded, sum(found.histogram)) == (3, 0, 0)
    assert math.isnan(found.mean)
    assert math.isnan(found.median)


@given(GRADES, GRADES)
def test_overlap_is_what_all_pairs_say(a: list[float], b: list[float]) -> None:
    (found,) = overlaps({"a": a, "b": b})
    wins = [(x > y) + (x == y) / 2 for x in a for y in b]
    assert found.better == pytest.approx(float(np.mean(wins)))
    assert found.difference == pytest.approx(float(np.mean(a) - np.mean(b)))
    assert -1e-9 <= found.common <= 1 + 1e-9
    (turned,) = overlaps({"b": b, "a": a})
    assert turned.better == pytest.approx(1 - found.better)
    assert turned.common == pytest.approx(found.common)


def test_classes_that_share_nothing_and_all() -> None:
    apart, alike, empty = {"a": [9.0, 10.0], "b": [1.0]}, {"a": [3.0, 4.0], "b": [4.0, 3.0]}, []
    assert overlaps(apart)[0].common == 0
    assert overlaps(apart)[0].better == 1
    assert overlaps(alike)[0].common == pytest.approx(1)
    assert overlaps({"a": [3.0], "b": empty}) == []
    assert [(one.first, one.second) for one in overlaps({n: [1.0] for n in "abc"})] == [
        ("a", "b"), ("a", "c"), ("b", "c"),
    ]  # fmt: skip


def test_the_interval_of_a_difference_covers_it() -> None:
    """Normal grades a point apart: 95 of 100 intervals hold the difference, give or take."""
    random = np.random.default_rng(5)
    held = 0
    for _ in range(60):
        first, second = random.normal(6, 1.5, 40), random.normal(5, 1.5, 30)
        (found,) = overlaps({"a": first.tolist(), "b": second.tolist()})
        held += found.interval.low <= 1 <= found.interval.high
    assert 52 <= held <= 60


def test_one_answer_says_nothing_of_the_spread() -> None:
    (found,) = overlaps({"a": [3.0], "b": [2.0, 4.0]})
    assert not any(map(math.isfinite, found.interval))
