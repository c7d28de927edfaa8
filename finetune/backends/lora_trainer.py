"""What MLX and torch do alike: a step, what a checkpoint holds, what is told of it.

A backend brings the arithmetic alone, in the methods that are abstract here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from openchat_local.finetune.adapter.lora import (
    LoraConfig,
    LoraError,
    LoraPair,
    LoraWeights,
    check_lora,
    initial_lora,
    lora_shapes,
)
from openchat_local.finetune.architectures import architecture_of
from openchat_local.finetune.backends.group import Group, SingleProcess
from openchat_local.finetune.backends.trainer import (
    ClassSums,
    OptimizerConfig,
    StepResult,
    added,
    class_sums,
)
from openchat_local.finetune.data.batches import Batch
from openchat_local.models.gguf import GGUFFile

Array = TypeVar("Array")  # the backend's own, which divides and multiplies by numbers

# By parameter: "blk.0.attn_q.a" (rank, inputs) and "blk.0.attn_q.b" (outputs, rank), in float32
# and with the rows in GGUF's order.
Values = Mapping[str, np.ndarray]

# At the supervised positions of a batch: CE in nats, and whether the likeliest token was right.
Predictions = tuple[np.ndarray, np.ndarray]


class LoraTrainer(ABC, Generic[Array]):
    """A `Trainer` except for its arithmetic."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        base: GGUFFile,
        lora: LoraConfig,
        optimizer: OptimizerConfig | None,
        *,
        seed: int,
        checkpointing: bool,
        group: Group | None,
    ) -> None:
        """Raises LoraError for an adapter that `base` cannot have."""
        self._base = base
        self._lora = lora
        self._config = optimizer or OptimizerConfig()
        self._seed = seed
        self._checkpointing = checkpointing
        self._group = group or SingleProcess()
        self._shapes = lora_shapes(base, lora)
        self._names = tuple(f"{name}.{side}" for name in self._shapes for side in "ab")

    # Training

    def step(self, micro_batches: Sequence[Batch], learning_rate: float) -> StepResult:
        try:
            classes = self._accumulated(micro_batches)
            with self._memory_errors():
                return self._update_once(classes, learning_rate)
        finally:
            self._drop_gradients()

    def _accumulated(self, micro_batches: Sequence[Batch]) -> Mapping[int, ClassSums]:
        """The sums by class over the micro-batches of all processes; their gradients are kept."""
        classes: dict[int, ClassSums] = {}
        try:
            with self._memory_errors():
                for number, batch in enumerate(micro_batches):
                    predictions = self._accumulate(batch, self._dropout_seed(number))
                    classes = added(classes, class_sums(batch, *predictions))
        except MemoryError:
            self._group.all_well(False)
            raise
        if not self._group.all_well(True):
            raise MemoryError("another process of this run has too little memory")
        return self._group.sum_classes(classes)

    def _update_once(self, classes: Mapping[int, ClassSums], learning_rate: float) -> StepResult:
        """Divide the gradients of all processes once by the weight of all, and go there."""
        weight = sum(sums.weight for sums in classes.values())
        loss = sum(sums.weighted_loss for sums in classes.values()) / weight
        gradients = self._gradients()
        self._group.sum_tensors(gradients)
        gradients = [gradient / weight for gradient in gradients]
        norm = math.sqrt(self._squares(gradients).astype(np.float64).sum())
        if math.isfinite(loss) and math.isfinite(norm):
            self._update(self._clipped(gradients, norm), learning_rate)
        return StepResult(loss, norm, classes)

    def _clipped(self, gradients: list[Any], norm: float) -> list[Any]:
        """Scaled down to a norm of `clip`, 0 for none (as torch.nn.utils.clip_grad_norm_).

        Here rather than in a library: every backend clips by the norm that the step reports.
        """
        limit = self._config.clip
        factor = limit / (norm + 1e-6)
        if not limit or factor >= 1:
            return gradients
        return [factor * gradient for gradient in gradients]

    def _dropout_seed(self, micro_batch: int) -> int | None:
        """Depends on nothing but the seed and where the run is, so no generator needs saving."""
        if not self._lora.dropout:
            return None
        place = (self._seed, self._steps, micro_batch, self._group.rank)
        return int(np.random.SeedSequence(place).generate_state(1)[0])

    def evaluate(self, batch: Batch) -> Mapping[int, ClassSums]:
        with self._memory_errors():
            return class_sums(batch, *self._predictions(batch))

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        with self._memory_errors():
            return self._logits(tokens)

    # The adapter, and what a checkpoint holds

    def lora(self) -> LoraWeights:
        values = self._values()
        return {name: LoraPair(values[f"{name}.a"], values[f"{name}.b"]) for name in self._shapes}

    def begin(self, seed: int) -> None:
        self.set_lora(initial_lora(self._shapes, self._lora, seed))
        zeros = {name: np.zeros_like(values) for name, values in self._values().items()}
        self._set_moments(0, zeros, zeros)
        self._seed = seed

    def set_lora(self, weights: LoraWeights) -> None:
        """Raises LoraError if the weights are not of this adapter's layers and shapes."""
        check_lora(weights, self._shapes, self._lora)
        self._set_values(
            {
                f"{name}.{side}": getattr(weights[name], side)
                for name in self._shapes
                for side in "ab"
            }
        )

    def state(self) -> dict[str, np.ndarray]:
        mean, square = self._moments_now()
        groups = {"lora": self._values(), "mean": mean, "square": square}
        arrays = {
            f"{group}.{name}": values[name] for group, values in groups.items() for name in values
        }
        return arrays | {"steps": np.array(self._steps), "seed": np.array(self._seed)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Raises LoraError if the state is of another adapter."""
        values, mean, square = (
            {name: _stored(state, f"{group}.{name}") for name in self._names}
            for group in ("lora", "mean", "square")
        )
        steps, seed = int(_stored(state, "steps")), int(_stored(state, "seed"))
        self.set_lora(
            {name: LoraPair(values[f"{name}.a"], values[f"{name}.b"]) for name in self._shapes}
        )
        self._set_moments(steps, mean, square)
        self._seed = seed

    # What to tell of it

    def describe(self) -> dict[str, Any]:
        return {
            "backend": self.name,
            "versions": {name: version(name) for name in (*self.packages, "numpy")},
            "processes": self._group.size,
            **self._arithmetic(),
            "checkpointing": self._checkpointing,
            "base": self._base.fingerprint,
            "base_types": dict(Counter(tensor.type for tensor in self._base.tensors)),
            "notes": [*self._notes(), *self._left_alone()],
        }

    def _left_alone(self) -> list[str]:
        if not architecture_of(self._base).sees_pictures(self._base):
            return []
        return [
            "The text part of the model is trained; its picture encoder (mmproj) stays as it is."
        ]

    @abstractmethod
    def peak_memory(self) -> int: ...

    # The arithmetic

    @abstractmethod
    def _memory_errors(self) -> AbstractContextManager[None]:
        """Raises what the backend says of too little memory as MemoryError."""

    @abstractmethod
    def _accumulate(self, batch: Batch, dropout_seed: int | None) -> Predictions:
        """Add the gradients of a batch's Σ w·CE to those that are kept; no dropout for None."""

    @abstractmethod
    def _predictions(self, batch: Batch) -> Predictions:
        """The same without gradients or dropout."""

    @abstractmethod
    def _logits(self, tokens: np.ndarray) -> np.ndarray:
        """(sequence, vocabulary) float32 for tokens (sequence,)."""

    @abstractmethod
    def _gradients(self) -> list[Any]:
        """What is kept, one float32 `Array` a parameter in the order of `_names`; zeros where
        nothing was added."""

    @abstractmethod
    def _drop_gradients(self) -> None:
        """Keep none any more."""

    @abstractmethod
    def _squares(self, gradients: Sequence[Array]) -> np.ndarray:
        """Σ g² of each, (parameters,) float32."""

    @abstractmethod
    def _update(self, gradients: Sequence[Array], learning_rate: float) -> None:
        """AdamW with bias correction, and one to `_steps`."""

    @property
    @abstractmethod
    def _steps(self) -> int:
        """Updates so far."""

    @abstractmethod
    def _values(self) -> Values:
        """The adapter."""

    @abstractmethod
    def _set_values(self, values: Values) -> None:
        """Replace the adapter, and nothing of the optimizer."""

    @abstractmethod
    def _moments_now(self) -> tuple[Values, Values]:
        """The optimizer's means of gradients and of their squares."""

    @abstractmethod
    def _set_moments(self, steps: int, mean: Values, square: Values) -> None:
        """Replace them, and the number of updates."""

    @abstractmethod
    def _arithmetic(self) -> dict[str, Any]:
        """Device, precision and how products are made."""

    @abstractmethod
    def _notes(self) -> list[str]:
        """Sentences on what makes the base another one than chat runs."""


def _stored(state: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    if key not in state:
        raise LoraError(f"The checkpoint has no {key!r}: use the settings that it was made with.")
    return state[key]
