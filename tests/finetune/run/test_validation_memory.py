"""A validation that does not fit into memory is taken in pieces, and its loss stays the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.adapter.lora import LoraWeights
from openchat_local.finetune.backends.trainer import ClassSums, StepResult, class_sums
from openchat_local.finetune.data.batches import Batch, Row, build_batch
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.finetune.run.events import NoticeEvent
from openchat_local.finetune.run.loop import Loop, LoopSettings, OutOfMemory
from openchat_local.finetune.run.schedule import Schedule


class Arithmetic:
    """A trainer on a device that holds `room` rows at once; a token's loss is its number."""

    def __init__(self, room: int) -> None:
        self.room = room

    def evaluate(self, batch: Batch) -> Mapping[int, ClassSums]:
        if len(batch.tokens) > self.room:
            raise MemoryError
        losses = batch.labels.ravel()[np.flatnonzero(batch.weights)]
        return class_sums(batch, losses, losses > 2)

    def step(self, micro_batches: Sequence[Batch], learning_rate: float) -> StepResult:
        return StepResult(1.0, 1.0, {})

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        return np.zeros((len(tokens), 1), np.float32)

    def lora(self) -> LoraWeights:
        return {}

    def set_lora(self, weights: LoraWeights) -> None:
        pass

    def state(self) -> dict[str, np.ndarray]:
        return {"x": np.zeros(1)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {}

    def peak_memory(self) -> int:
        return 0


class Rows:
    """Eight rows to validate on, in one batch."""

    def __init__(self) -> None:
        weights = np.ones(4, np.float32)
        weights[0] = 0
        rows = [Row(np.arange(i, i + 4, dtype=np.int32), weights, i % 2, i) for i in range(1, 9)]
        self._batch = build_batch(rows, [[i] for i in range(8)])

    def steps(self, epoch: int) -> Sequence[Sequence[Callable[[], Batch]]]:
        return [[lambda: self._batch]]

    def validation(self) -> Sequence[Callable[[], Batch]]:
        return [lambda: self._batch]


def losses(path: Path, room: int) -> tuple[list[float], list[str]]:
    run = RunDirectory.create(path, {})
    notices: list[str] = []
    Loop(
        run, Arithmetic(room), Rows(), LoopSettings(Schedule(1.0, 2), 1, 1),
        lambda event: notices.append(event.text) if isinstance(event, NoticeEvent) else None,
    ).fit()  # fmt: skip
    return [record["loss"] for record in run.metrics() if record["kind"] == "validation"], notices


def test_validation_goes_on_in_pieces(tmp_path: Path) -> None:
    expected, nothing = losses(tmp_path / "whole", 8)
    assert nothing == []
    found, notices = losses(tmp_path / "pieces", 2)
    assert found == pytest.approx(expected)
    assert len(found) == 3
    assert len(notices) == 2  # for halves and for quarters, once in the whole run


def test_a_conversation_that_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match="held-out conversation"):
        losses(tmp_path / "run", 0)
