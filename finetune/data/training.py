"""Prepared rows as the steps of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from openchat_local.finetune.data.batches import Batch, build_batch
from openchat_local.finetune.data.epoch import Layout, Step, plan_epoch
from openchat_local.finetune.data.rows import RowStore


@dataclass(frozen=True)
class PlannedData:
    """What the training loop draws from: batches are built when they are called for.

    A smaller `layout.tokens_per_batch` changes neither the steps nor their rows.
    """

    train: RowStore
    held_out: RowStore
    layout: Layout
    seed: int

    def plan(self, epoch: int) -> list[Step]:
        """The steps of an epoch, as row numbers of `train`."""
        return plan_epoch(self.train.lengths, self.train.classes, self.seed, epoch, self.layout)

    def steps(self, epoch: int) -> list[list[Callable[[], Batch]]]:
        """The steps of an epoch, each as its micro-batches."""
        return [_batches(self.train, step) for step in self.plan(epoch)]

    def validation(self) -> list[Callable[[], Batch]]:
        """The batches of the validation rows, the same at every call."""
        rows = self.held_out
        plan = plan_epoch(rows.lengths, np.zeros_like(rows.classes), 0, 0, self.layout)
        return [batch for step in plan for batch in _batches(rows, step)]


def _batches(rows: RowStore, step: Step) -> list[Callable[[], Batch]]:
    return [partial(build_batch, rows, batch.groups, batch.columns) for batch in step]
