"""The loss over chunks of positions is the loss over all of them, gradient included."""

from __future__ import annotations

import numpy as np
import pytest

from openchat_local.finetune.backends import memory
from openchat_local.finetune.backends.mlx.loss import Head, position_losses, weighted_loss

import mlx.core as mx  # isort: skip  # after the package that loads OpenBLAS

POSITIONS, WIDTH, VOCABULARY = 11, 16, 50


@pytest.mark.parametrize("chunk", [1, 4, 11, 64])
def test_chunks_change_neither_losses_nor_gradient(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LEAST_POSITIONS", chunk)
    monkeypatch.setattr(memory, "CHUNK_BYTES", 0)
    random = np.random.default_rng(0)
    hidden = random.standard_normal((POSITIONS, WIDTH))
    matrix = random.standard_normal((VOCABULARY, WIDTH))
    labels = random.integers(0, VOCABULARY, POSITIONS)
    weights = random.uniform(0.1, 2, POSITIONS)

    scores = hidden @ matrix.T
    exponentials = np.exp(scores - scores.max(-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    ce = -np.log(probabilities[np.arange(POSITIONS), labels])
    slope = (probabilities - np.eye(VOCABULARY)[labels]) * weights[:, None]

    held = mx.array(matrix.astype(np.float32))
    head = Head(lambda states: states @ held.T, VOCABULARY)
    assert head.chunk == chunk
    targets = mx.array(labels.astype(np.int32))
    scales = mx.array(weights.astype(np.float32))
    states = mx.array(hidden.astype(np.float32))
    function = mx.value_and_grad(lambda x: weighted_loss(head, 3 * x, targets, scales))
    (total, (losses, correct)), gradient = function(states / 3)
    np.testing.assert_allclose(float(np.array(total)), (weights * ce).sum(), rtol=1e-6)
    np.testing.assert_allclose(np.array(losses), ce, rtol=1e-5)
    np.testing.assert_array_equal(np.array(correct), scores.argmax(-1) == labels)
    np.testing.assert_allclose(np.array(gradient), 3 * slope @ matrix, rtol=1e-4, atol=1e-5)

    alone, right = position_losses(head, states, targets)
    np.testing.assert_allclose(np.array(alone), ce, rtol=1e-5)
    np.testing.assert_array_equal(np.array(right), scores.argmax(-1) == labels)


def test_a_large_vocabulary_is_summed_without_drift() -> None:
    random = np.random.default_rng(0)
    logits = (3 * random.standard_normal((4, 49152))).astype(np.float32)
    exact = logits.astype(np.float64)
    exact = np.log(np.exp(exact).sum(-1)) - exact[:, 0]
    head = Head(lambda states: states, 49152)
    losses, _ = position_losses(head, mx.array(logits), mx.zeros(4, mx.int32))
    np.testing.assert_allclose(np.array(losses), exact, atol=5e-6)
