"""Losses by a training backend: the arithmetic that an adapter was trained with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import overload

import numpy as np

from openchat_local.finetune.adapter.gguf_file import read_gguf_adapter
from openchat_local.finetune.adapter.lora import LoraConfig, LoraWeights, initial_lora, lora_shapes
from openchat_local.finetune.backends.choose import BackendError
from openchat_local.finetune.backends.trainer import Trainer
from openchat_local.finetune.data.batches import Row, build_batch
from openchat_local.finetune.data.epoch import Layout, plan_epoch
from openchat_local.models.engine.protocol import AdapterChoice
from openchat_local.models.gguf import GGUFFile


class TrainerLosses:
    """`Losses` by a trainer of `base`, which `make` loads with an adapter of some rank; it is
    loaded again only for an adapter of another shape."""

    def __init__(
        self, base: GGUFFile, make: Callable[[LoraConfig], Trainer], batch_positions: int
    ) -> None:
        """A batch has at most `batch_positions` positions; a longer row is alone in one."""
        self._base = base
        self._make = make
        self._batch_positions = batch_positions
        self._loaded: tuple[LoraConfig, Trainer] | None = None

    def __call__(self, choice: AdapterChoice, rows: Sequence[Row]) -> Iterator[tuple[int, float]]:
        try:
            yield from self._evaluated(self._trainer(choice), _Numbered(rows))
        except MemoryError as error:
            raise BackendError(
                f"There is too little memory ({error}): cut long conversations with --max-length, "
                "or measure with --backend llama.cpp."
            ) from error

    def _evaluated(self, trainer: Trainer, rows: Sequence[Row]) -> Iterator[tuple[int, float]]:
        lengths = np.array([len(row.ids) for row in rows], np.int64)
        longest = int(lengths.max(initial=1))
        layout = Layout(self._batch_positions, self._batch_positions, longest, packing=False)
        for step in plan_epoch(lengths, np.zeros_like(lengths), 0, 0, layout):
            for batch in step:
                found = trainer.evaluate(build_batch(rows, batch.groups, batch.columns))
                for number, sums in found.items():
                    yield number, sums.loss

    def _trainer(self, choice: AdapterChoice) -> Trainer:
        """With this adapter on it. Raises AdapterError, LoraError or ModelFileError."""
        if choice.path is None:
            config = LoraConfig() if self._loaded is None else self._loaded[0]
            weights: LoraWeights = {}
        else:
            weights, config, _ = read_gguf_adapter(choice.path)
            config = replace(config, alpha=config.alpha * choice.scale)
        if self._loaded is None or self._loaded[0] != config:
            self._loaded = None  # two models at once may be one too many
            self._loaded = config, self._make(config)
        trainer = self._loaded[1]
        # A layer that the adapter leaves alone, or all of them, gets one that changes nothing.
        trainer.set_lora({**initial_lora(lora_shapes(self._base, config), config, 0), **weights})
        return trainer


class _Numbered(Sequence[Row]):
    """Rows whose class is their number: so their sums come back for each."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return replace(self._rows[index], class_index=index)
