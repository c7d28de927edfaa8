"""Cross-entropy over a large vocabulary, without keeping its logits.

The output head is frozen, so the gradient that the hidden states will need is known as
soon as a chunk's logits are: it is taken then, and the logits are dropped. Neither the
logits of all positions nor a second pass through the head are needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from openchat_local.finetune.backends.memory import positions_at_once


@dataclass(frozen=True, slots=True)
class Head:
    """The frozen output layer: `logits` maps (n, width) to (n, vocabulary)."""

    logits: Callable[[mx.array], mx.array]
    vocabulary: int

    @property
    def chunk(self) -> int:
        """Positions whose logits are held at once."""
        return positions_at_once(self.vocabulary)


def weighted_loss(
    head: Head, hidden: mx.array, labels: mx.array, weights: mx.array
) -> tuple[mx.array, tuple[mx.array, mx.array]]:
    """Σ w·CE in nats, differentiable by `hidden`; and per position CE and whether the
    likeliest token was the label.

    `hidden` is (positions, width), `labels` (positions,) int32, `weights` (positions,)
    float32.
    """

    @mx.custom_function
    def loss(hidden: mx.array) -> tuple[mx.array, mx.array, mx.array, mx.array]:
        losses: list[mx.array] = []
        correct: list[mx.array] = []
        gradients: list[mx.array] = []
        for start in range(0, len(hidden), head.chunk):
            part = slice(start, start + head.chunk)
            states = hidden[part]
            if gradients:  # one chunk's logits after the other, never side by side
                (states,) = mx.depends([states], [gradients[-1]])
            logits = head.logits(states)
            ce, right, softmax = _cross_entropy(logits, labels[part])
            # d(w·CE)/d(logits) = w · (softmax − one-hot)
            slope = softmax.at[mx.arange(len(states)), labels[part]].add(-1.0)
            slope = (slope * weights[part, None]).astype(logits.dtype)
            losses.append(ce)
            correct.append(right)
            gradients += mx.vjp(head.logits, [states], [slope])[1]
        ce = mx.concatenate(losses)
        return (ce * weights).sum(), ce, mx.concatenate(correct), mx.concatenate(gradients)

    @loss.vjp
    def backward(
        _hidden: mx.array, cotangents: list[mx.array], outputs: list[mx.array]
    ) -> mx.array:
        gradient = outputs[3]
        return cotangents[0].astype(gradient.dtype) * gradient

    outputs: Any = loss(hidden)
    total, ce, correct, _ = outputs
    return total, (ce, correct)


def position_losses(head: Head, hidden: mx.array, labels: mx.array) -> tuple[mx.array, mx.array]:
    """Per position CE in nats, and whether the likeliest token was the label."""
    losses, correct = [], []
    for start in range(0, len(hidden), head.chunk):
        part = slice(start, start + head.chunk)
        ce, right, _ = _cross_entropy(head.logits(hidden[part]), labels[part])
        mx.eval(ce, right)
        losses.append(ce)
        correct.append(right)
    return mx.concatenate(losses), mx.concatenate(correct)


def _cross_entropy(logits: mx.array, labels: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """CE, whether the likeliest token was the label, and the softmax."""
    logits = logits.astype(mx.float32)
    highest = logits.max(axis=-1, keepdims=True)
    exponentials = mx.exp(logits - highest)
    partition = _row_sums(exponentials)
    chosen = mx.take_along_axis(logits, labels[:, None], axis=-1)
    losses = mx.log(partition) + highest - chosen
    right = mx.argmax(logits, axis=-1) == labels
    return losses[:, 0], right, exponentials / partition


def _row_sums(rows: mx.array) -> mx.array:
    """(n, 1) sums of (n, width), part by part.

    On a CPU, MLX adds up a row one by one in float32, in softmax and logsumexp as well: over
    49k tokens that loses 5e-5 of the sum, always in the same direction.
    """
    n, width = rows.shape
    length = max(math.isqrt(width), 1)
    whole = width - width % length
    parts = rows[:, :whole].reshape(n, -1, length).sum(axis=-1).sum(axis=-1)
    return (parts + rows[:, whole:].sum(axis=-1))[:, None]
