"""What a backend is: the arithmetic of training, and nothing else.

MLX and torch each implement `Trainer`. Data, weights, batches, checkpoints on disk,
metrics and adapter files are the same for both, and are NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from openchat_local.finetune.adapter.lora import LoraWeights
from openchat_local.finetune.data.batches import Batch


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """AdamW with bias correction; `clip` is the largest global gradient norm, 0 for no limit."""

    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0


@dataclass(frozen=True, slots=True)
class ClassSums:
    """Sums over the supervised tokens of one class: nats of loss times weight, weights,
    nats of loss unweighted, tokens, and tokens whose likeliest prediction was right."""

    weighted_loss: float
    weight: float
    loss: float
    tokens: int
    correct: int

    def __add__(self, other: ClassSums) -> ClassSums:
        return ClassSums(
            self.weighted_loss + other.weighted_loss,
            self.weight + other.weight,
            self.loss + other.loss,
            self.tokens + other.tokens,
            self.correct + other.correct,
        )


def added(sums: Mapping[int, ClassSums], more: Mapping[int, ClassSums]) -> dict[int, ClassSums]:
    """Both together, class by class."""
    together = dict(sums)
    for index, one in more.items():
        together[index] = together[index] + one if index in together else one
    return together


def class_sums(batch: Batch, losses: np.ndarray, correct: np.ndarray) -> dict[int, ClassSums]:
    """The sums of a batch, in float64, from `losses` (nats) and `correct` at its supervised
    positions, in the order of `Batch.targets`."""
    positions, _, narrow = batch.targets()
    weights = narrow.astype(np.float64)
    classes = batch.classes.ravel()[positions]
    losses = losses.astype(np.float64)
    return {
        int(index): ClassSums(
            weighted_loss=float((weights * losses)[here].sum()),
            weight=float(weights[here].sum()),
            loss=float(losses[here].sum()),
            tokens=int(here.sum()),
            correct=int(correct[here].sum()),
        )
        for index in np.unique(classes)
        for here in [classes == index]
    }


@dataclass(frozen=True, slots=True)
class StepResult:
    """One optimizer step. `loss` is Σ w·CE / Σ w over all its micro-batches, in nats."""

    loss: float
    gradient_norm: float
    classes: Mapping[int, ClassSums]


class Trainer(Protocol):
    """A base model with a LoRA adapter on one device (or one rank of several)."""

    def step(self, micro_batches: Sequence[Batch], learning_rate: float) -> StepResult:
        """Accumulate Σ w·CE and Σ w over the micro-batches, divide once, update once.

        A step whose loss or gradient is not finite changes nothing and returns it.
        Raises MemoryError when the device has too little memory; nothing is changed then.
        Some devices end the process instead.
        """

    def evaluate(self, batch: Batch) -> Mapping[int, ClassSums]:
        """The sums of a batch, by class index, without dropout or update."""

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """(sequence, vocabulary) float32 for tokens (sequence,) int32; for checks."""

    def lora(self) -> LoraWeights:
        """The adapter as it is now."""

    def begin(self, seed: int) -> None:
        """Be as one that was just made with this `seed`: for another run on the same base."""

    def set_lora(self, weights: LoraWeights) -> None:
        """Replace the adapter, as when resuming or comparing backends."""

    def state(self) -> dict[str, np.ndarray]:
        """Adapter, optimizer and random state: all that `load_state` needs to continue."""

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue exactly where `state` was taken."""

    def describe(self) -> dict[str, Any]:
        """For run.json: device, precision, matmul strategy, versions."""

    def peak_memory(self) -> int:
        """Bytes at the highest since the trainer was made."""
