"""How well held-out answers are predicted, a conversation at a time: kept as it is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from openchat_local.finetune.backends.trainer import Trainer
from openchat_local.finetune.data.batches import build_batch
from openchat_local.finetune.data.epoch import Layout, MicroBatch, plan_epoch
from openchat_local.finetune.data.rows import RowStore
from openchat_local.finetune.evaluation.ablation.recipes import AblationError
from openchat_local.finetune.evaluation.losses.by_engine import EngineLosses
from openchat_local.finetune.evaluation.rows import RowFile
from openchat_local.models.engine.protocol import AdapterChoice, Engine

Progress = Callable[[float], None]  # the share that is done

Measured = dict[int, np.ndarray]
"""By the number of a condition: (conversations, 2) float64, nats of loss and tokens of each; 0
tokens where a conversation was not measured."""


def measured(rows: Sequence[Mapping[str, Any]], conversations: int, conditions: int) -> Measured:
    """What is kept in `rows`."""
    found = {number: np.zeros((conversations, 2)) for number in range(conditions)}
    for row in rows:
        if row["condition"] < conditions and row["conversation"] < conversations:
            found[row["condition"]][row["conversation"]] = row["nats"], row["tokens"]
    return found


def is_measured(rows: Sequence[Mapping[str, Any]], stores: Sequence[RowStore]) -> bool:
    """Whether `rows` have every conversation of `stores`."""
    return {(row["condition"], row["conversation"]) for row in rows} >= {
        (number, int(index)) for number, store in enumerate(stores) for index in store.classes
    }


def measure(
    trainer: Trainer,
    stores: Sequence[RowStore],
    kept: RowFile,
    batch_positions: int,
    progress: Progress,
    wants_to_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Measure with the trainer's adapter what `kept` does not have yet: under every condition the
    rows of its store.

    Batches are the same whenever it is called, so that what is measured after a kill is what
    would have been measured before.
    """
    there = {(row["condition"], row["conversation"]) for row in kept.rows()}
    work = [
        (number, store, batch)
        for number, store in enumerate(stores)
        for batch in _batches(store, batch_positions)
    ]
    for done, (number, store, batch) in enumerate(work, 1):
        owners = {int(store.classes[row]) for group in batch.groups for row in group}
        if {(number, owner) for owner in owners} <= there:
            continue
        if wants_to_stop():
            return
        sums = trainer.evaluate(build_batch(store, batch.groups, batch.columns))
        for conversation, one in sums.items():
            kept.append(_row(number, conversation, one.loss, one.tokens))
        progress(done / len(work))


def _batches(store: RowStore, batch_positions: int) -> Iterator[MicroBatch]:
    longest = int(store.lengths.max(initial=1))
    layout = Layout(batch_positions, batch_positions, longest, packing=False)
    for step in plan_epoch(store.lengths, np.zeros_like(store.classes), 0, 0, layout):
        yield from step


def score(
    engine: Engine,
    choice: AdapterChoice,
    stores: Sequence[RowStore],
    kept: RowFile,
    progress: Progress,
) -> None:
    """The same by the engine that one chats with.

    Raises ContextOverflow where a conversation is longer than its context, EngineError.
    """
    there = {(row["condition"], row["conversation"]) for row in kept.rows()}
    work = [
        (number, row)
        for number, store in enumerate(stores)
        for row in store
        if (number, row.class_index) not in there
    ]
    found = EngineLosses(engine)(choice, [row for _, row in work])
    for done, (index, nats) in enumerate(found, 1):
        number, row = work[index]
        kept.append(_row(number, row.class_index, nats, int(np.count_nonzero(row.weights))))
        progress(done / len(work))


def _row(condition: int, conversation: int, nats: float, tokens: int) -> dict[str, Any]:
    if not math.isfinite(nats):
        raise AblationError(
            f"The loss of held-out conversation {conversation + 1} is not a number: the weights "
            "that were trained are damaged; try a lower --learning-rate."
        )
    return {
        "condition": condition, "conversation": conversation, "nats": nats, "tokens": int(tokens)
    }  # fmt: skip
