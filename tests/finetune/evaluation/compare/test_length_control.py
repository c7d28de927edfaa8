"""A judge who likes length is found out, and one who likes what is good is believed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from openchat_local.finetune.evaluation.compare.length_control import (
    RIDGE,
    LengthControlled,
    fit,
    length_controlled,
)
from openchat_local.finetune.evaluation.statistics import mean_bootstrap


def judged(
    random: np.random.Generator, prompts: int, *, quality: float, liking: float, longer: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Preferences and lengths, in characters, by a judge whose log odds for A are `quality` plus
    `liking` times the relative difference in length; A's answers are `longer` times as long."""
    a = random.lognormal(np.log(900 * longer), 0.5, prompts).round()
    b = random.lognormal(np.log(900), 0.5, prompts).round()
    odds = quality + liking * np.tanh((a - b) / (a - b).std())
    return (random.random(prompts) < 1 / (1 + np.exp(-odds))).astype(float), a, b


def test_a_judge_of_length_is_caught() -> None:
    preferences, a, b = judged(np.random.default_rng(0), 200, quality=0.0, liking=3.0, longer=1.6)
    raw = mean_bootstrap(preferences)
    assert raw.low > 0.6  # A seems to be better by far
    found = length_controlled(preferences, a, b)
    assert isinstance(found, LengthControlled)
    assert found.interval.low < 0.5 < found.interval.high
    assert found.length_weight > 2


def test_what_is_better_stays_better_where_the_worse_is_longer() -> None:
    preferences, a, b = judged(np.random.default_rng(1), 200, quality=1.5, liking=3.0, longer=0.6)
    assert mean_bootstrap(preferences).low < 0.6  # A seems to be no better
    found = length_controlled(preferences, a, b)
    assert isinstance(found, LengthControlled)
    assert found.interval.low > 0.6
    assert found.interval.low < 1 / (1 + np.exp(-1.5)) < found.interval.high


def test_without_a_liking_for_length_little_changes() -> None:
    preferences, a, b = judged(np.random.default_rng(2), 400, quality=0.8, liking=0.0, longer=1.3)
    found = length_controlled(preferences, a, b)
    assert isinstance(found, LengthControlled)
    assert found.rate == pytest.approx(preferences.mean(), abs=0.05)


def test_intervals_cover_what_is_so() -> None:
    random = np.random.default_rng(3)
    quality = 0.5
    truth = 1 / (1 + np.exp(-quality))
    covered = 0
    for _ in range(200):
        found = length_controlled(
            *judged(random, 80, quality=quality, liking=1.5, longer=1.3), samples=400
        )
        assert isinstance(found, LengthControlled)
        covered += found.interval.low <= truth <= found.interval.high
    assert 180 <= covered <= 199  # of 200: 95 %, give or take three standard deviations


@pytest.mark.parametrize("ties", [0.0, 0.4])
def test_the_fit_is_the_maximum_of_the_penalised_likelihood(ties: float) -> None:
    random = np.random.default_rng(4)
    preferences, a, b = judged(random, 60, quality=0.4, liking=1.0, longer=1.2)
    preferences[random.random(60) < ties] = 0.5
    features = np.stack([np.ones(60), np.tanh((a - b) / (a - b).std())], 1)
    counts = random.multinomial(60, np.full(60, 1 / 60), 3)

    def loss(weights: np.ndarray, count: np.ndarray) -> float:
        odds = features @ weights
        likelihood = preferences * np.logaddexp(0, -odds) + (1 - preferences) * np.logaddexp(
            0, odds
        )
        return float(count @ likelihood + RIDGE / 2 * weights @ weights)

    for found, count in zip(fit(features, preferences, counts), counts, strict=True):
        best = minimize(loss, np.zeros(2), (count,), "BFGS", tol=1e-10)
        np.testing.assert_allclose(found, best.x, atol=1e-4)


def test_where_length_explains_everything_there_is_still_a_maximum() -> None:
    difference = np.arange(-30, 30) * 10.0 + 5
    found = length_controlled((difference > 0).astype(float), difference, np.zeros(60))
    assert isinstance(found, LengthControlled)
    assert found.rate == pytest.approx(0.5, abs=0.05)
    assert np.isfinite(found.length_weight)


@pytest.mark.parametrize(
    ("preferences", "a", "why"),
    [
        ([1.0, 0.0] * 9, [5.0, 15.0] * 9, "it takes 20 judgements, and there are 18"),
        ([0.5] * 30, [5.0, 15.0] * 15, "almost all judgements are the same"),
        ([1.0] * 28 + [0.0] * 2, [5.0, 15.0] * 15, "almost all judgements are the same"),
        ([1.0, 0.0] * 15, [15.0, 25.0] * 15, "one of the two wrote the longer answer"),
        ([1.0, 0.0] * 15, [10.0] * 30, "one of the two wrote the longer answer"),
    ],
)
def test_what_cannot_be_told_is_said(preferences: list[float], a: list[float], why: str) -> None:
    found = length_controlled(np.array(preferences), np.array(a), np.full(len(a), 10.0))
    assert isinstance(found, str)
    assert why in found
