"""Divergences of which only the likeliest tokens are known, against those of all tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest

from openchat_local.finetune.evaluation.conditions.divergence import (
    NOTHING,
    Divergence,
    Top,
    divergence,
)


def distributions(seed: int, change: float, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Natural logarithms of two distributions over `count` tokens, the second one changed."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=count) * 3
    other = logits + change * random.normal(size=count)
    return normalised(logits), normalised(other)


def normalised(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits - np.log(np.exp(logits).sum()))


def likeliest(logs: np.ndarray, count: int) -> Top:
    return [(int(id), float(logs[id])) for id in np.argsort(-logs, kind="stable")[:count]]


def whole(log_p: np.ndarray, log_q: np.ndarray) -> tuple[float, float, float]:
    p, q = np.exp(log_p), np.exp(log_q)
    log_middle = np.log((p + q) / 2)
    shannon = ((p * (log_p - log_middle)).sum() + (q * (log_q - log_middle)).sum()) / 2
    return (p * (log_p - log_q)).sum(), (q * (log_q - log_p)).sum(), shannon


@pytest.mark.parametrize("change", [0.0, 0.3, 4.0])
def test_of_whole_distributions_it_is_the_definition(change: float) -> None:
    log_p, log_q = distributions(1, change)

    found = divergence(likeliest(log_p, 300), likeliest(log_q, 300))

    forward, backward, shannon = whole(log_p, log_q)
    assert found.forward == pytest.approx(forward, abs=1e-9)
    assert found.backward == pytest.approx(backward, abs=1e-9)
    assert found.shannon == pytest.approx(shannon, abs=1e-9)
    assert found.shannon_most == pytest.approx(shannon, abs=1e-9)
    assert found.unseen == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("known", [1, 5, 40, 299])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_not_known_is_bounded(seed: int, known: int) -> None:
    log_p, log_q = distributions(seed, 1.0)

    found = divergence(likeliest(log_p, known), likeliest(log_q, known))

    forward, backward, shannon = whole(log_p, log_q)
    assert -1e-12 <= found.forward <= forward + 1e-12
    assert -1e-12 <= found.backward <= backward + 1e-12
    assert -1e-12 <= found.shannon <= shannon + 1e-12
    assert shannon <= found.shannon_most <= math.log(2)


def test_more_known_tokens_leave_less_unsaid() -> None:
    log_p, log_q = distributions(3, 1.0)

    gaps = [
        found.shannon_most - found.shannon
        for known in (5, 50, 200)
        for found in [divergence(likeliest(log_p, known), likeliest(log_q, known))]
    ]

    assert gaps == sorted(gaps, reverse=True)


def test_distributions_without_a_common_token_are_as_far_apart_as_can_be() -> None:
    found = divergence([(1, 0.0)], [(2, 0.0)])

    assert found.shannon_most == pytest.approx(math.log(2))


def test_sums_and_means_are_of_each_figure() -> None:
    one = Divergence(1.0, 2.0, 3.0, 4.0, 5.0)

    assert (NOTHING + one + one) / 2 == one
