"""Divergences of which only the likeliest tokens are known, against those of all tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest

from openchat_local.finetune.evaluation.conditions.divergence import (
    Divergence,
    Tops,
    divergences,
)
from openchat_local.models.engine.protocol import Score


def distributions(seed: int, change: float, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Natural logarithms of two distributions over `count` tokens, the second one changed."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=count) * 3
    other = logits + change * random.normal(size=count)
    return normalised(logits), normalised(other)


def normalised(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits - np.log(np.exp(logits).sum()))


def likeliest(logs: np.ndarray, count: int) -> Tops:
    """Those of one position."""
    ids = np.argsort(-logs, kind="stable")[None, :count]
    return Tops(ids, logs[ids])


def divergence(first: Tops, second: Tops) -> Divergence:
    (found,) = divergences(first, second)
    return Divergence(*found)


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
    certain = [Tops(np.array([[id]]), np.zeros((1, 1))) for id in (1, 2)]

    found = divergence(*certain)

    assert found.shannon_most == pytest.approx(math.log(2))


def test_positions_do_not_see_each_other() -> None:
    pairs = [distributions(seed, 1.0) for seed in range(4)]
    firsts, seconds = ([likeliest(pair[i], 20) for pair in pairs] for i in (0, 1))

    together = divergences(Tops.joined(firsts), Tops.joined(seconds))

    apart = [divergences(first, second)[0] for first, second in zip(firsts, seconds, strict=True)]
    assert np.array_equal(together, np.array(apart))


def test_what_an_engine_tells_is_taken_as_it_is() -> None:
    top = (((7, -0.5), (2, -1.5)), ((4, -0.25), (9, -3.0)))

    tops = Tops.of(Score(0, (7, 4), (-0.5, -0.25), (True, True), top, 3, 0))

    assert tops.ids.tolist() == [[7, 2], [4, 9]]
    assert tops.logs.tolist() == [[-0.5, -1.5], [-0.25, -3.0]]
