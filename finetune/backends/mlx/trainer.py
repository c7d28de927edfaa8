"""The arithmetic of training, on MLX."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import mlx.core as mx
import numpy as np

from openchat_local.finetune.adapter.lora import (
    LoraConfig,
    LoraError,
    LoraPair,
    LoraWeights,
    check_lora,
    initial_lora,
)
from openchat_local.finetune.backends.group import Group, SingleProcess
from openchat_local.finetune.backends.llama_file import DENSE_TYPES, Weights
from openchat_local.finetune.backends.mlx import OPENBLAS
from openchat_local.finetune.backends.mlx.adamw import Arrays, Moments, adamw, global_norm
from openchat_local.finetune.backends.mlx.blas import NO_OPENBLAS
from openchat_local.finetune.backends.mlx.device import (
    CACHE_LIMIT,
    Precision,
    default_precision,
    memory_errors,
)
from openchat_local.finetune.backends.mlx.loss import position_losses, weighted_loss
from openchat_local.finetune.backends.mlx.model import AdaptedLlama, Inputs
from openchat_local.finetune.backends.mlx.repack import EXACT_TYPES
from openchat_local.finetune.backends.trainer import (
    ClassSums,
    OptimizerConfig,
    StepResult,
    class_sums,
)
from openchat_local.finetune.data.batches import Batch
from openchat_local.models.gguf import GGUFFile


class MLXTrainer:
    """A `Trainer` on MLX's default device."""

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
        mx.set_cache_limit(CACHE_LIMIT)
        self._base = base
        self._lora = lora
        self._optimizer = optimizer or OptimizerConfig()
        self._seed = seed
        self._precision = precision or default_precision()
        self._group = group or SingleProcess()
        with memory_errors():
            self._model = AdaptedLlama(
                base, lora, self._precision, checkpointing=checkpointing, weights=weights
            )
        self._gradient = mx.value_and_grad(self._loss)
        self._parameters = _arrays(initial_lora(self._model.shapes, lora, seed))
        self._moments = Moments.none(self._parameters)
        mx.reset_peak_memory()

    # Training

    def step(self, micro_batches: Sequence[Batch], learning_rate: float) -> StepResult:
        try:
            with memory_errors():
                gradients, classes = self._accumulated(micro_batches)
        except MemoryError:
            self._group.all_well(False)
            raise
        if not self._group.all_well(True):
            raise MemoryError("another process of this run has too little memory")
        with memory_errors():
            classes = self._group.sum_classes(classes)
            weight = sum(sums.weight for sums in classes.values())
            gradients = self._whole_gradients(gradients, weight)
            norm = global_norm(gradients)
            loss = sum(sums.weighted_loss for sums in classes.values()) / weight
            if np.isfinite(loss) and np.isfinite(norm):
                self._update(_clipped(gradients, norm, self._optimizer.clip), learning_rate)
        return StepResult(loss, norm, classes)

    def evaluate(self, batch: Batch) -> Mapping[int, ClassSums]:
        with memory_errors():
            hidden = self._model.hidden(self._parameters, Inputs(batch.tokens, batch.segments))
            labels, positions = _supervised(batch)
            states = hidden.reshape(-1, hidden.shape[-1])[positions]
            losses, correct = position_losses(self._model.head, states, labels)
            return class_sums(batch, np.array(losses), np.array(correct))

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        with memory_errors():
            inputs = Inputs(tokens[None].astype(np.int32), np.ones((1, len(tokens)), np.int32))
            hidden = self._model.hidden(self._parameters, inputs)[0]
            return np.array(self._model.head.logits(hidden).astype(mx.float32))

    def _accumulated(self, micro_batches: Sequence[Batch]) -> tuple[Arrays, dict[int, ClassSums]]:
        """Σ of the gradients of Σ w·CE, and the sums by class, over all micro-batches."""
        totals: Arrays = {}
        classes: dict[int, ClassSums] = {}
        for number, batch in enumerate(micro_batches):
            (_, (losses, correct)), gradients = self._gradient(
                self._parameters, batch, self._dropout_key(number)
            )
            totals = {name: totals[name] + g if totals else g for name, g in gradients.items()}
            mx.eval(totals, losses, correct)
            for index, sums in class_sums(batch, np.array(losses), np.array(correct)).items():
                classes[index] = classes[index] + sums if index in classes else sums
        return totals, classes

    def _whole_gradients(self, gradients: Arrays, weight: float) -> Arrays:
        """The gradients of all processes, divided once by the weight of all."""
        if self._group.size > 1:
            parts = [gradients.get(name, mx.zeros_like(p)) for name, p in self._parameters.items()]
            self._group.sum_tensors(parts)
            gradients = dict(zip(self._parameters, parts, strict=True))
        return {name: total / weight for name, total in gradients.items()}

    def _loss(
        self, parameters: Arrays, batch: Batch, key: mx.array | None
    ) -> tuple[mx.array, tuple[mx.array, mx.array]]:
        """Σ w·CE, and CE and correctness at the supervised positions: no others get logits."""
        hidden = self._model.hidden(parameters, Inputs(batch.tokens, batch.segments, key))
        labels, positions = _supervised(batch)
        weights = mx.array(batch.weights.ravel())[positions]
        states = hidden.reshape(-1, hidden.shape[-1])[positions]
        return weighted_loss(self._model.head, states, labels, weights)

    def _update(self, gradients: Arrays, learning_rate: float) -> None:
        parameters, moments = adamw(
            self._parameters, gradients, self._moments, self._optimizer, learning_rate
        )
        mx.eval(parameters, moments.mean, moments.square)
        self._parameters, self._moments = parameters, moments

    def _dropout_key(self, micro_batch: int) -> mx.array | None:
        """Depends on nothing but the seed and where the run is, so no generator needs saving."""
        if not self._lora.dropout:
            return None
        seeds = np.random.SeedSequence(
            (self._seed, self._moments.steps, micro_batch, self._group.rank)
        )
        return mx.random.key(int(seeds.generate_state(1)[0]))

    # The adapter, and what a checkpoint holds

    def lora(self) -> LoraWeights:
        return {
            name: LoraPair(
                np.array(self._parameters[f"{name}.a"]), np.array(self._parameters[f"{name}.b"])
            )
            for name in self._model.shapes
        }

    def set_lora(self, weights: LoraWeights) -> None:
        """Raises LoraError if the weights are not of this adapter's layers and shapes."""
        check_lora(weights, self._model.shapes, self._lora)
        self._parameters = _arrays(weights)

    def state(self) -> dict[str, np.ndarray]:
        moments = self._moments
        groups = {"lora": self._parameters, "mean": moments.mean, "square": moments.square}
        arrays = {
            f"{group}.{name}": np.array(array)
            for group, named in groups.items()
            for name, array in named.items()
        }
        return arrays | {"steps": np.array(moments.steps), "seed": np.array(self._seed)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Raises LoraError if the state is of another adapter."""
        pairs = {
            name: LoraPair(_stored(state, f"lora.{name}.a"), _stored(state, f"lora.{name}.b"))
            for name in self._model.shapes
        }
        mean, square = (
            {name: mx.array(_stored(state, f"{group}.{name}")) for name in self._parameters}
            for group in ("mean", "square")
        )
        moments, seed = Moments(int(_stored(state, "steps")), mean, square), _stored(state, "seed")
        self.set_lora(pairs)
        self._moments, self._seed = moments, int(seed)

    # What to tell of it

    def describe(self) -> dict[str, Any]:
        quantised = self._precision.quantised
        return {
            "backend": "mlx",
            "versions": {name: version(name) for name in ("mlx", "mlx-lm", "numpy")},
            "device": str(mx.device_info().get("device_name", mx.default_device())),
            "processes": self._group.size,
            "dtype": self._precision.dtype,
            "matmul": "quantised" if quantised else "dense",
            "scales": self._precision.dtype if quantised else None,
            "blas": "metal" if mx.metal.is_available() else OPENBLAS or "reference",
            "checkpointing": self._model.checkpointing,
            "base": self._base.fingerprint,
            "base_types": dict(Counter(tensor.type for tensor in self._base.tensors)),
            "notes": self._notes(),
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
        if others := sorted(types - EXACT_TYPES):
            notes.append(
                f"Tensors in {', '.join(others)} are held in 8 bits while training, which is "
                "near, not equal."
            )
        if types & EXACT_TYPES and self._precision.dtype != "float32":
            notes.append(
                f"The scales of the base's blocks are rounded to {self._precision.dtype} while "
                "training: the weights are near those that chat runs, not equal."
            )
        return notes


def _supervised(batch: Batch) -> tuple[mx.array, mx.array]:
    """Labels at the positions that have weight, and those positions of the raveled batch."""
    positions = np.flatnonzero(batch.weights)
    labels = batch.labels.ravel()[positions].astype(np.int32)
    return mx.array(labels), mx.array(positions.astype(np.int32))


def _arrays(weights: LoraWeights) -> Arrays:
    return {
        f"{name}.{side}": mx.array(getattr(pair, side).astype(np.float32))
        for name, pair in weights.items()
        for side in "ab"
    }


def _clipped(gradients: Arrays, norm: float, limit: float) -> Arrays:
    """Scaled down to a norm of `limit`, 0 for none (as torch.nn.utils.clip_grad_norm_)."""
    factor = limit / (norm + 1e-6)
    if not limit or factor >= 1:
        return gradients
    return {name: factor * gradient for name, gradient in gradients.items()}


def _stored(state: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    if key not in state:
        raise LoraError(
            f"The checkpoint has no {key!r}: go on with the settings that it was made with."
        )
    return state[key]
