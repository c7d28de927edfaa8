"""The arithmetic of training, on torch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openchat_local.finetune.adapter.lora import LoraConfig, initial_lora
from openchat_local.finetune.adapter.peft import from_hugging_face_rows, to_hugging_face_rows
from openchat_local.finetune.backends.group import Group
from openchat_local.finetune.backends.lora_trainer import LoraTrainer, Predictions, Values
from openchat_local.finetune.backends.model_file import Weights, requantised_note
from openchat_local.finetune.backends.torch.attention import positions_of, spans_of
from openchat_local.finetune.backends.torch.device import (
    Precision,
    default_dtype,
    device_name,
    find_device,
    memory_errors,
    peak_memory,
)
from openchat_local.finetune.backends.torch.loss import capped, weighted_loss
from openchat_local.finetune.backends.torch.model import AdaptedModel, Inputs
from openchat_local.finetune.backends.torch.packed import REQUANTISED_BITS
from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.finetune.data.batches import Batch
from openchat_local.models.gguf import GGUFFile


class TorchTrainer(LoraTrainer[Tensor]):
    """A `Trainer` on one device; with a group of several processes, one of its ranks."""

    name = "torch"
    packages = ("torch", "transformers")

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
        super().__init__(base, lora, optimizer, seed=seed, checkpointing=checkpointing, group=group)
        self._device = find_device() if device is None else device
        self._precision = precision or Precision(default_dtype(self._device), quantised=False)
        with memory_errors(self._device):
            self._model = AdaptedModel(
                base,
                lora,
                self._precision,
                self._device,
                checkpointing=checkpointing,
                weights=weights,
            )
        self._parameters: dict[str, Tensor] = {
            f"{name}.{side}": getattr(layer, side)
            for name, layer in self._model.layers.items()
            for side in "ab"
        }
        self.set_lora(initial_lora(self._shapes, lora, seed))
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(),
            betas=self._config.betas,
            eps=self._config.epsilon,
            weight_decay=self._config.weight_decay,
            fused=True,
        )
        self._updates = 0

    def _memory_errors(self) -> AbstractContextManager[None]:
        return memory_errors(self._device)

    # Forward and backward

    def _accumulate(self, batch: Batch, dropout_seed: int | None) -> Predictions:
        if dropout_seed is not None:
            torch.manual_seed(dropout_seed)
        total, *predictions = self._losses(batch, training=True)
        total.backward()  # type: ignore[no-untyped-call]
        losses, correct = predictions
        return losses.cpu().numpy(), correct.cpu().numpy()

    def _predictions(self, batch: Batch) -> Predictions:
        with torch.no_grad():
            _, losses, correct = self._losses(batch, training=False)
        return losses.cpu().numpy(), correct.cpu().numpy()

    def _losses(self, batch: Batch, *, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Σ w·CE, and CE and correctness at the supervised positions: no others get logits."""
        inputs = Inputs(
            self._on_device(batch.tokens.astype(np.int64)),
            self._on_device(positions_of(batch.segments)),
            spans_of(batch.segments),
        )
        positions, labels, weights = batch.targets()
        hidden = self._model.hidden(inputs, training=training).flatten(0, 1)
        return weighted_loss(
            hidden[self._on_device(positions)],
            self._model.head(),
            self._on_device(labels.astype(np.int64)),
            self._on_device(weights),
            self._model.shape.logit_cap,
        )

    def _logits(self, tokens: np.ndarray) -> np.ndarray:
        rows = tokens[None].astype(np.int64)
        inputs = Inputs(self._on_device(rows), self._on_device(np.arange(len(tokens))[None]), None)
        with torch.no_grad():
            hidden = self._model.hidden(inputs)[0]
            logits = (hidden @ self._model.head().T).float()
            return capped(logits, self._model.shape.logit_cap).cpu().numpy()

    # The optimizer

    def _gradients(self) -> list[Tensor]:
        return [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for parameter in self._parameters.values()
        ]

    def _drop_gradients(self) -> None:
        self._optimizer.zero_grad()

    def _squares(self, gradients: Sequence[Tensor]) -> np.ndarray:
        # On the device in float32, which is all that MPS and some of Intel's GPUs have.
        return torch.stack([gradient.square().sum() for gradient in gradients]).cpu().numpy()

    def _update(self, gradients: Sequence[Tensor], learning_rate: float) -> None:
        for parameter, gradient in zip(self._parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._updates += 1

    @property
    def _steps(self) -> int:
        return self._updates

    # What a checkpoint holds. Outside, rows are in GGUF's order.

    def _values(self) -> Values:
        return {name: self._outside(name, p) for name, p in self._parameters.items()}

    def _set_values(self, values: Values) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._inside(name, values[name]))

    def _moments_now(self) -> tuple[Values, Values]:
        mean, square = (
            {
                name: self._outside(name, self._moment(p, key))
                for name, p in self._parameters.items()
            }
            for key in ("exp_avg", "exp_avg_sq")
        )
        return mean, square

    def _moment(self, parameter: Tensor, key: str) -> Tensor:
        found: Tensor | None = self._optimizer.state.get(parameter, {}).get(key)
        return torch.zeros_like(parameter) if found is None else found

    def _set_moments(self, steps: int, mean: Values, square: Values) -> None:
        for name, parameter in self._parameters.items():
            self._optimizer.state[parameter] = {
                "step": torch.tensor(float(steps), device=self._device),
                "exp_avg": self._inside(name, mean[name]),
                "exp_avg_sq": self._inside(name, square[name]),
            }
        self._updates = steps

    def _on_device(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

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

    def _arithmetic(self) -> dict[str, Any]:
        return {
            "device": device_name(self._device),
            "dtype": self._precision.dtype,
            "matmul": self._matmul(),
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
        types = self._model.requantised
        return [requantised_note(self._base, types, "Q8_0", REQUANTISED_BITS)]
