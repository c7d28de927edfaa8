"""The costliest batch is tried before a run: does it fit, and how long will all of it take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np

from openchat_local.finetune.backends.group import SINGLE, Group
from openchat_local.finetune.backends.trainer import Trainer
from openchat_local.finetune.data.batches import build_batch
from openchat_local.finetune.data.epoch import MicroBatch, plan_epoch
from openchat_local.finetune.data.rows import RowStore
from openchat_local.finetune.run.plan import Plan, plan_from_json
from openchat_local.finetune.run.settings import RunSettings

VALIDATION_SHARE = 0.15  # of the training's time


def measure(
    plan: Plan,
    settings: RunSettings,
    rows: RowStore,
    held_out: RowStore,
    trainer: Trainer,
    group: Group = SINGLE,
    clock: Callable[[], float] = time.perf_counter,
) -> Plan:
    """Try a batch of the middle size and the costliest one, take them back, and put time and
    memory into the plan.

    Validations are fewer than wished for where they would take more than VALIDATION_SHARE
    of the training. With `minutes`, the number of steps follows from the time. Raises
    PlanError or MemoryError.
    """
    epoch = plan_epoch(rows.lengths, rows.classes, settings.seed, 0, plan.layout)
    batches = sorted((batch for step in epoch for batch in step), key=_cost)
    middle, costliest = batches[len(batches) // 2], batches[-1]
    before = trainer.state()
    # The first one also compiles.
    seconds = min(_try(trainer, rows, middle, clock) for _ in range(2))
    same = _shape(middle) == _shape(costliest)
    longest_seconds = seconds if same else _try(trainer, rows, costliest, clock)
    trainer.load_state(before)
    spent = _spent(_shape(middle), seconds, _shape(costliest), longest_seconds)
    # What was tried was tried by every process; in training they share the batches.
    step_seconds = sum(spent(*_shape(batch)) for batch in batches) / len(epoch) / group.size
    validation = plan_epoch(held_out.lengths, np.zeros_like(held_out.classes), 0, 0, plan.layout)
    # A pass without gradients is about a third of a step.
    validation_seconds = sum(spent(*_shape(batch)) for step in validation for batch in step) / 3
    validation_seconds /= group.size
    steps, budget = plan.steps, settings.minutes * 60
    training = min(budget or math.inf, steps * step_seconds)
    validations = settings.validations
    if validation_seconds:
        affordable = int(VALIDATION_SHARE * training / validation_seconds)
        validations = min(validations, max(affordable, 1))
    if budget:
        left = budget - (validations + 1) * validation_seconds
        steps = min(steps, max(1, int(left / step_seconds)))
    measured = replace(
        plan,
        steps=steps,
        epochs=steps / plan.steps_per_epoch,
        measured_bytes=trainer.peak_memory(),
        step_seconds=step_seconds,
        validations=validations,
        validation_seconds=validation_seconds,
    )
    # Every process measured a little differently; all do as the first.
    return plan_from_json(group.from_first(asdict(measured)))


def _try(trainer: Trainer, rows: RowStore, batch: MicroBatch, clock: Callable[[], float]) -> float:
    """Seconds of a step of this batch alone."""
    built = build_batch(rows, batch.groups, batch.columns)
    started = clock()
    trainer.step([built], 0.0)
    return clock() - started


def _shape(batch: MicroBatch) -> tuple[int, int]:
    return len(batch.groups), batch.columns


def _cost(batch: MicroBatch) -> int:
    """Grows as time and memory do: with the positions, and, for attention, their square."""
    rows, columns = _shape(batch)
    return rows * columns * (columns + 1024)


def _spent(
    one: tuple[int, int], seconds: float, other: tuple[int, int], other_seconds: float
) -> Callable[[int, int], float]:
    """Seconds of a batch of (rows, columns): a · positions + b · positions · columns, through
    two measurements; of the first alone where they do not tell the two parts apart."""
    (rows, columns), (other_rows, other_columns) = one, other
    each, other_each = seconds / (rows * columns), other_seconds / (other_rows * other_columns)
    slope = (other_each - each) / (other_columns - columns) if other_columns != columns else 0.0
    start = each - slope * columns
    if slope < 0 or start <= 0:
        slope, start = 0.0, each
    return lambda rows, columns: rows * columns * (start + slope * columns)
