"""Intervals cover as often as they say, and tests are the textbook's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.evaluation.statistics import (
    mcnemar,
    mean_bootstrap,
    ratio_bootstrap,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17, 1998, table I
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_the_intervals_of_shares_are_the_published_ones(
    successes: int, trials: int, low: float, high: float
) -> None:
    found = wilson(successes, trials)
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


@given(st.integers(0, 500), st.integers(0, 500))
def test_a_share_lies_in_its_interval(successes: int, failures: int) -> None:
    trials = successes + failures
    low, high = wilson(successes, trials)
    assert 0 <= low <= high <= 1
    if trials:
        assert low <= successes / trials <= high


def test_no_trials_say_nothing_and_no_share_is_refused() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(3, 2)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 2 / 32), (1, 9, 22 / 1024), (9, 1, 22 / 1024)],
)
def test_a_paired_test_counts_what_the_binomial_distribution_does(
    first: int, second: int, p: float
) -> None:
    assert mcnemar(first, second) == pytest.approx(p)


def test_a_paired_test_of_many_questions_does_not_overflow() -> None:
    assert mcnemar(20_000, 20_000) == 1.0
    assert 0 < mcnemar(20_000, 20_600) < 0.01


def test_a_bootstrap_covers_what_it_should() -> None:
    """Of conversations of very different lengths; 95 of 100, give or take what 400 allow."""
    random = np.random.default_rng(5)
    covered = 0
    for trial in range(400):
        tokens = random.integers(5, 400, size=80).astype(float)
        level = random.normal(0.2, 0.3, size=80)  # each conversation its own
        found = ratio_bootstrap(level * tokens, tokens, samples=400, seed=trial)
        covered += found.low <= 0.2 <= found.high
    assert 0.90 <= covered / 400 <= 0.98


def test_a_bootstrap_draws_whole_conversations() -> None:
    """A hundred tokens of one conversation are no hundred witnesses."""
    few = ratio_bootstrap([0.0, 100.0, 0.0, 100.0], [100.0] * 4)
    assert few.high - few.low > 0.5


def test_a_bootstrap_is_the_same_every_time_and_whatever_its_size() -> None:
    values = np.random.default_rng(0).normal(size=3000)
    assert mean_bootstrap(values, seed=3) == mean_bootstrap(values, seed=3)
    assert mean_bootstrap(values, seed=3) != mean_bootstrap(values, seed=4)


def test_one_cluster_says_nothing_of_the_spread() -> None:
    assert mean_bootstrap([1.0]) == (-math.inf, math.inf)


def test_sums_that_cannot_be_divided_by_are_refused() -> None:
    with pytest.raises(ValueError, match="denominators"):
        ratio_bootstrap([1.0, 2.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="denominators"):
        ratio_bootstrap([1.0], [1.0, 2.0])
