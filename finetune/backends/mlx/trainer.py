"""The arithmetic of training, on MLX."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import mlx.core as mx
import numpy as np

from openchat_local.finetune.adapter.lora import LoraConfig, initial_lora
from openchat_local.finetune.backends.group import Group
from openchat_local.finetune.backends.lora_trainer import LoraTrainer, Predictions, Values
from openchat_local.finetune.backends.mlx import OPENBLAS
from openchat_local.finetune.backends.mlx.adamw import Arrays, Moments, adamw, squares
from openchat_local.finetune.backends.mlx.blas import NO_OPENBLAS
from openchat_local.finetune.backends.mlx.device import (
    CACHE_LIMIT,
    Precision,
    default_precision,
    memory_errors,
)
from openchat_local.finetune.backends.mlx.loss import position_losses, weighted_loss
from openchat_local.finetune.backends.mlx.model import AdaptedModel, Inputs
from openchat_local.finetune.backends.mlx.repack import EXACT_TYPES, held_bits
from openchat_local.finetune.backends.model_file import DENSE_TYPES, Weights, requantised_note
from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.finetune.data.batches import Batch
from openchat_local.models.gguf import GGUFFile


class MLXTrainer(LoraTrainer[mx.array]):
    """A `Trainer` on MLX's default device."""

    name = "mlx"
    packages = ("mlx", "mlx-lm")

    def __init__(
        self,
        base: GGUFFile,
        lora: LoraConfig,
        optimizer: OptimizerConfig | None = None,
        *,
        seed: int = 0,
        precision: Precision | None = None,
        checkpointing: bool = True,
        group: Group | None = None,
        weights: Weights | None = None,
    ) -> None:
        """`seed` starts the adapter and its dropout; `weights` instead of the base's own.

        Raises ModelFileError if the base cannot be trained here, LoraError for an adapter
        that it cannot have, MemoryError if it does not fit.
        """
        super().__init__(base, lora, optimizer, seed=seed, checkpointing=checkpointing, group=group)
        mx.set_cache_limit(CACHE_LIMIT)
        self._precision = precision or default_precision()
        with memory_errors():
            self._model = AdaptedModel(
                base, lora, self._precision, checkpointing=checkpointing, weights=weights
            )
        self._gradient = mx.value_and_grad(self._loss)
        self._totals: Arrays = {}
        self._parameters: Arrays = {}
        self.set_lora(initial_lora(self._shapes, lora, seed))
        self._moments = Moments.none(self._parameters)
        mx.reset_peak_memory()

    def _memory_errors(self) -> AbstractContextManager[None]:
        return memory_errors()

    # Forward and backward

    def _accumulate(self, batch: Batch, dropout_seed: int | None) -> Predictions:
        key = None if dropout_seed is None else mx.random.key(dropout_seed)
        (_, (losses, correct)), gradients = self._gradient(self._parameters, batch, key)
        before = self._totals
        totals = {name: before[name] + g if before else g for name, g in gradients.items()}
        mx.eval(totals, losses, correct)
        self._totals = totals
        return np.array(losses), np.array(correct)

    def _loss(
        self, parameters: Arrays, batch: Batch, key: mx.array | None
    ) -> tuple[mx.array, tuple[mx.array, mx.array]]:
        """Σ w·CE, and CE and correctness at the supervised positions: no others get logits."""
        states, labels = self._supervised(parameters, batch, key)
        weights = mx.array(batch.targets().weights)
        return weighted_loss(self._model.head, states, labels, weights)

    def _predictions(self, batch: Batch) -> Predictions:
        states, labels = self._supervised(self._parameters, batch, None)
        losses, correct = position_losses(self._model.head, states, labels)
        return np.array(losses), np.array(correct)

    def _supervised(
        self, parameters: Arrays, batch: Batch, key: mx.array | None
    ) -> tuple[mx.array, mx.array]:
        """Hidden states (positions, width) and labels (positions,) where there is weight."""
        hidden = self._model.hidden(parameters, Inputs(batch.tokens, batch.segments, key))
        positions, labels, _ = batch.targets()
        states = hidden.reshape(-1, hidden.shape[-1])[mx.array(positions.astype(np.int32))]
        return states, mx.array(labels.astype(np.int32))

    def _logits(self, tokens: np.ndarray) -> np.ndarray:
        inputs = Inputs(tokens[None].astype(np.int32), np.ones((1, len(tokens)), np.int32))
        hidden = self._model.hidden(self._parameters, inputs)[0]
        return np.array(self._model.head.logits(hidden).astype(mx.float32))

    # The optimizer

    def _gradients(self) -> list[mx.array]:
        found, parameters = self._totals, self._parameters
        return [found[n] if n in found else mx.zeros_like(parameters[n]) for n in self._names]

    def _drop_gradients(self) -> None:
        self._totals = {}

    def _squares(self, gradients: Sequence[mx.array]) -> np.ndarray:
        return squares(gradients)

    def _update(self, gradients: Sequence[mx.array], learning_rate: float) -> None:
        named = dict(zip(self._names, gradients, strict=True))
        parameters, moments = adamw(
            self._parameters, named, self._moments, self._config, learning_rate
        )
        mx.eval(parameters, moments.mean, moments.square)
        self._parameters, self._moments = parameters, moments

    @property
    def _steps(self) -> int:
        return self._moments.steps

    # What a checkpoint holds

    def _values(self) -> Values:
        return _outside(self._parameters)

    def _set_values(self, values: Values) -> None:
        self._parameters = _inside(values)

    def _moments_now(self) -> tuple[Values, Values]:
        return _outside(self._moments.mean), _outside(self._moments.square)

    def _set_moments(self, steps: int, mean: Values, square: Values) -> None:
        self._moments = Moments(steps, _inside(mean), _inside(square))

    # What to tell of it

    def _arithmetic(self) -> dict[str, Any]:
        quantised = self._precision.quantised
        return {
            "device": str(mx.device_info().get("device_name", mx.default_device())),
            "dtype": self._precision.dtype,
            "matmul": "quantised" if quantised else "dense",
            "scales": self._precision.dtype if quantised else None,
            "blas": "metal" if mx.metal.is_available() else OPENBLAS or "reference",
        }

    def peak_memory(self) -> int:
        return mx.get_peak_memory()

    def _notes(self) -> list[str]:
        slow = sys.platform == "linux" and mx.default_device() == mx.cpu and OPENBLAS is None
        return [*([NO_OPENBLAS] if slow else []), *self._rounded()]

    def _rounded(self) -> list[str]:
        """What makes the base another one than chat runs."""
        if not self._precision.quantised:
            return []
        types = {tensor.type for tensor in self._base.tensors} - DENSE_TYPES
        notes = []
        if others := types - EXACT_TYPES:
            width = 4 if self._precision.dtype == "float32" else 2
            bits = held_bits(min(others), width)
            notes.append(requantised_note(self._base, others, "8 bits", bits))
        if types & EXACT_TYPES and self._precision.dtype != "float32":
            notes.append(
                f"The scales of the base's blocks are rounded to {self._precision.dtype} while "
                "training: the weights are near those that chat runs, not equal."
            )
        return notes


def _outside(arrays: Arrays) -> Values:
    return {name: np.array(array) for name, array in arrays.items()}


def _inside(values: Mapping[str, np.ndarray]) -> Arrays:
    return {name: mx.array(value.astype(np.float32)) for name, value in values.items()}
