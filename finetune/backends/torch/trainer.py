"""The arithmetic of training, on torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openchat_local.finetune.adapter.lora import (
    LoraConfig,
    LoraError,
    LoraPair,
    LoraWeights,
    check_lora,
    initial_lora,
)
from openchat_local.finetune.adapter.peft import from_hugging_face_rows, to_hugging_face_rows
from openchat_local.finetune.backends.group import Group, SingleProcess
from openchat_local.finetune.backends.llama_file import Weights
from openchat_local.finetune.backends.torch.attention import positions_of, spans_of
from openchat_local.finetune.backends.torch.device import (
    Precision,
    default_dtype,
    device_name,
    find_device,
    memory_errors,
    peak_memory,
)
from openchat_local.finetune.backends.torch.loss import weighted_loss
from openchat_local.finetune.backends.torch.model import AdaptedLlama, Inputs
from openchat_local.finetune.backends.trainer import (
    ClassSums,
    OptimizerConfig,
    StepResult,
    class_sums,
)
from openchat_local.finetune.data.batches import Batch
from openchat_local.models.gguf import GGUFFile


class TorchTrainer:
    """A `Trainer` on one device; with a group of several processes, one of its ranks."""

    def __init__(
        self,
        base: GGUFFile,
        lora: LoraConfig,
        optimizer: OptimizerConfig | None = None,
        *,
        seed: int = 0,
        device: torch.device | None = None,
        precision: Precision | None = None,
        checkpointing: bool = True,
        group: Group | None = None,
        weights: Weights | None = None,
    ) -> None:
        """`seed` starts the adapter and its dropout; `weights` instead of the base's own.

        Raises ModelFileError if the base cannot be trained here, LoraError for an adapter
        that it cannot have, MemoryError if it does not fit.
        """
        self._base = base
        self._lora = lora
        self._config = optimizer or OptimizerConfig()
        self._seed = seed
        self._device = find_device() if device is None else device
        self._precision = precision or Precision(default_dtype(self._device), quantised=False)
        self._group = group or SingleProcess()
        with memory_errors(self._device):
            self._model = AdaptedLlama(
                base,
                lora,
                self._precision,
                self._device,
                checkpointing=checkpointing,
                weights=weights,
            )
        self._parameters = {
            f"{name}.{side}": getattr(layer, side)
            for name, layer in self._model.layers.items()
            for side in "ab"
        }
        self.set_lora(initial_lora(self._model.shapes, lora, seed))
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(),
            betas=self._config.betas,
            eps=self._config.epsilon,
            weight_decay=self._config.weight_decay,
            fused=True,
        )
        self._steps = 0

    # Training

    def step(self, micro_batches: Sequence[Batch], learning_rate: float) -> StepResult:
        try:
            with memory_errors(self._device):
                classes = self._accumulated(micro_batches)
        except MemoryError:
            self._optimizer.zero_grad()
            self._group.all_well(False)
            raise
        if not self._group.all_well(True):
            self._optimizer.zero_grad()
            raise MemoryError("another process of this run has too little memory")
        classes = self._group.sum_classes(classes)
        weight = sum(sums.weight for sums in classes.values())
        loss = sum(sums.weighted_loss for sums in classes.values()) / weight
        gradients = self._whole_gradients(weight)
        norm = _global_norm(gradients)
        if math.isfinite(loss) and math.isfinite(norm):
            self._update(gradients, norm, learning_rate)
        self._optimizer.zero_grad()
        return StepResult(loss, norm, classes)

    def evaluate(self, batch: Batch) -> Mapping[int, ClassSums]:
        with memory_errors(self._device), torch.no_grad():
            return self._sums(batch, training=False)[1]

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        with memory_errors(self._device), torch.no_grad():
            rows = tokens[None].astype(np.int64)
            inputs = Inputs(
                self._on_device(rows), self._on_device(np.arange(len(tokens))[None]), None
            )
            hidden = self._model.hidden(inputs)[0]
            return (hidden @ self._model.head().T).float().cpu().numpy()

    def _accumulated(self, micro_batches: Sequence[Batch]) -> dict[int, ClassSums]:
        """Leave Σ of the gradients of Σ w·CE in the parameters; the sums by class."""
        classes: dict[int, ClassSums] = {}
        for number, batch in enumerate(micro_batches):
            if self._lora.dropout:
                # From the seed and where the run is: no generator's state needs saving.
                place = (self._seed, self._steps, number, self._group.rank)
                torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
            total, found = self._sums(batch, training=True)
            total.backward()  # type: ignore[no-untyped-call]
            for index, sums in found.items():
                classes[index] = classes[index] + sums if index in classes else sums
        return classes

    def _sums(self, batch: Batch, *, training: bool) -> tuple[Tensor, dict[int, ClassSums]]:
        """Σ w·CE, and the sums by class: only supervised positions get logits."""
        inputs = Inputs(
            self._on_device(batch.tokens.astype(np.int64)),
            self._on_device(positions_of(batch.segments)),
            spans_of(batch.segments),
        )
        where = np.flatnonzero(batch.weights)
        hidden = self._model.hidden(inputs, training=training).flatten(0, 1)
        total, losses, correct = weighted_loss(
            hidden[self._on_device(where)],
            self._model.head(),
            self._on_device(batch.labels.ravel()[where].astype(np.int64)),
            self._on_device(batch.weights.ravel()[where]),
        )
        return total, class_sums(batch, losses.cpu().numpy(), correct.cpu().numpy())

    def _whole_gradients(self, weight: float) -> list[Tensor]:
        """The gradients of all processes, divided once by the weight of all."""
        gradients = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for parameter in self._parameters.values()
        ]
        self._group.sum_tensors(gradients)
        for gradient in gradients:
            gradient.div_(weight)
        return gradients

    def _update(self, gradients: list[Tensor], norm: float, learning_rate: float) -> None:
        limit = self._config.clip
        factor = min(limit / (norm + 1e-6), 1.0) if limit else 1.0
        for parameter, gradient in zip(self._parameters.values(), gradients, strict=True):
            parameter.grad = gradient.mul_(factor)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._steps += 1

    def _on_device(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

    # The adapter, and what a checkpoint holds. Outside, rows are in GGUF's order.

    def lora(self) -> LoraWeights:
        values = {name: self._outside(name, p) for name, p in self._parameters.items()}
        return {
            name: LoraPair(values[f"{name}.a"], values[f"{name}.b"]) for name in self._model.shapes
        }

    def set_lora(self, weights: LoraWeights) -> None:
        """Raises LoraError if the weights are not of this adapter's layers and shapes."""
        check_lora(weights, self._model.shapes, self._lora)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                pair = weights[name.rpartition(".")[0]]
                parameter.copy_(self._inside(name, pair.a if name.endswith(".a") else pair.b))

    def state(self) -> dict[str, np.ndarray]:
        state = {"steps": np.array(self._steps), "seed": np.array(self._seed)}
        for name, parameter in self._parameters.items():
            moments = self._optimizer.state.get(parameter, {})
            for key, held in (
                ("lora", parameter),
                ("mean", moments.get("exp_avg")),
                ("square", moments.get("exp_avg_sq")),
            ):
                found = torch.zeros_like(parameter) if held is None else held
                state[f"{key}.{name}"] = self._outside(name, found)
        return state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Raises LoraError if the state is of another adapter."""
        pairs = {
            name: LoraPair(_stored(state, f"lora.{name}.a"), _stored(state, f"lora.{name}.b"))
            for name in self._model.shapes
        }
        steps, seed = int(_stored(state, "steps")), int(_stored(state, "seed"))
        moments = {
            name: [
                self._inside(name, _stored(state, f"{key}.{name}")) for key in ("mean", "square")
            ]
            for name in self._parameters
        }
        self.set_lora(pairs)
        for name, parameter in self._parameters.items():
            mean, square = moments[name]
            self._optimizer.state[parameter] = {
                "step": torch.tensor(float(steps), device=self._device),
                "exp_avg": mean,
                "exp_avg_sq": square,
            }
        self._steps, self._seed = steps, seed

    def _outside(self, name: str, values: Tensor) -> np.ndarray:
        array: np.ndarray = values.detach().float().cpu().numpy()
        heads = self._permuted(name)
        return from_hugging_face_rows(array, heads) if heads else array.copy()

    def _inside(self, name: str, values: np.ndarray) -> Tensor:
        heads = self._permuted(name)
        rows = to_hugging_face_rows(values, heads) if heads else values
        return self._on_device(np.array(rows, np.float32))

    def _permuted(self, name: str) -> int | None:
        """The heads of a B whose rows transformers wants in another order."""
        _, _, layer, side = name.split(".")
        return self._model.heads.get(layer) if side == "b" else None

    # What to tell of it

    def describe(self) -> dict[str, Any]:
        return {
            "backend": "torch",
            "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
            "device": device_name(self._device),
            "processes": self._group.size,
            "dtype": self._precision.dtype,
            "matmul": self._matmul(),
            "checkpointing": self._model.checkpointing,
            "base": self._base.fingerprint,
            "base_types": dict(Counter(tensor.type for tensor in self._base.tensors)),
            "notes": self._notes(),
        }

    def peak_memory(self) -> int:
        return peak_memory(self._device)

    def _matmul(self) -> str:
        if self._precision.nf4:
            return "NF4, by bitsandbytes"
        return "GGUF blocks, layer by layer" if self._precision.quantised else "dense"

    def _notes(self) -> list[str]:
        if self._precision.nf4:
            near = "The base is held in NF4 while training, some 9 % off the weights that chat "
            return [near + "runs: --quantised trains on those themselves."]
        if not self._model.requantised:
            return []
        types = ", ".join(sorted(self._model.requantised))
        return [f"Tensors in {types} are held in Q8_0 while training, which is near, not equal."]


def _global_norm(gradients: list[Tensor]) -> float:
    """√Σ g² over all tensors: each summed on its device in float32, which is all that MPS and
    some of Intel's GPUs have, and together in float64 here."""
    squares = torch.stack([gradient.square().sum() for gradient in gradients])
    return math.sqrt(float(squares.cpu().numpy().sum(dtype=np.float64)))


def _stored(state: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    if key not in state:
        raise LoraError(
            f"The checkpoint has no {key!r}: go on with the settings that it was made with."
        )
    return state[key]
