"""AdamW with bias correction, on named arrays (arXiv 1711.05101, algorithm 2).

Not `mlx.optimizers.AdamW`: it is as near to float64, but rounds otherwise, so that a run which an
earlier version began would resume with other losses (3e-5 nats after four steps); and it changes
its moments in place, also where memory runs out in the middle of an update.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from openchat_local.finetune.backends.trainer import OptimizerConfig

Arrays = dict[str, mx.array]


@dataclass(frozen=True, slots=True)
class Moments:
    """What AdamW remembers after `steps` updates: the means of gradients and their squares."""

    steps: int
    mean: Arrays
    square: Arrays

    @classmethod
    def none(cls, parameters: Arrays) -> Moments:
        """Before the first update."""
        return cls(0, _zeros(parameters), _zeros(parameters))


def _zeros(arrays: Arrays) -> Arrays:
    return {name: mx.zeros_like(array) for name, array in arrays.items()}


def squares(gradients: Iterable[mx.array]) -> np.ndarray:
    """Σ g² of each, (arrays,) float32."""
    return np.array(mx.stack([gradient.square().sum() for gradient in gradients]))


def adamw(
    parameters: Arrays,
    gradients: Arrays,
    moments: Moments,
    config: OptimizerConfig,
    learning_rate: float,
) -> tuple[Arrays, Moments]:
    """The parameters and moments after one update; nothing is changed in place."""
    first, second = config.betas
    steps = moments.steps + 1
    rate = learning_rate / (1 - first**steps)
    square_correction = 1 / math.sqrt(1 - second**steps)
    decay = 1 - learning_rate * config.weight_decay
    updated, mean, square = {}, {}, {}
    for name, gradient in gradients.items():
        mean[name] = first * moments.mean[name] + (1 - first) * gradient
        square[name] = second * moments.square[name] + (1 - second) * gradient.square()
        step = mean[name] / (mx.sqrt(square[name]) * square_correction + config.epsilon)
        updated[name] = decay * parameters[name] - rate * step
    return updated, Moments(steps, mean, square)
