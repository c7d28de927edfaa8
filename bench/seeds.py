"""What either backend learns from the same data: the held-out loss of each class over three seeds.

Each backend in its default precision trains the starter for the same few steps, and judges the
held-out answers itself. Data is the file that BENCH_DATA names, and BENCH_HELD_OUT what is
judged; without them, generated conversations.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.finetune import generated_data
from bench.setting import starter
from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.choose import Backend, choose_backend
from openchat_local.finetune.backends.trainer import OptimizerConfig, Trainer
from openchat_local.finetune.data.batches import Row, build_batch
from openchat_local.finetune.data.epoch import Layout, plan_epoch
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.data.prepare import Prepared, prepare
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import choose_template
from openchat_local.models.template.vocabulary import Vocabulary

SEEDS = (1, 2, 3)
STEPS, TOKENS_PER_STEP = 12, 1024
RATE = 1e-3
JUDGED = 20  # conversations of each class
MAX_LENGTH = 512


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-seeds-") as name:
        folder = Path(name)
        train = _data(os.environ.get("BENCH_DATA"), folder / "train")
        held_out = _data(os.environ.get("BENCH_HELD_OUT"), folder / "held-out")
        judged = _first_of_each(held_out)
        classes = [rule.name for rule in train.policy.classes]
        losses: dict[tuple[str, str], list[dict[int, float]]] = {}
        for seed in SEEDS:
            for backend in (choose_backend("mlx"), choose_backend("torch")):
                before, after = _learned(backend, train, judged, seed)
                losses.setdefault((backend.name, "before"), []).append(before)
                losses.setdefault((backend.name, backend.why), []).append(after)
    print(
        f"{STEPS} steps of {TOKENS_PER_STEP} tokens at {RATE}, rank 8, seeds {SEEDS}; held-out "
        f"loss of {JUDGED} answers of each class under its own condition, nats a token:\n"
    )
    print("| | " + " | ".join(classes) + " |\n|---|" + "---|" * len(classes))
    for (name, what), found in losses.items():
        cells = [_spread([losses[index] for losses in found]) for index in range(len(classes))]
        print(f"| {name}, {what} | " + " | ".join(cells) + " |")


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.4f} ({min(values):.4f}–{max(values):.4f})"


def _data(named: str | None, folder: Path) -> Prepared:
    path = Path(named) if named else generated_data(folder.with_suffix(".jsonl"))
    base = read_gguf(starter())
    template = choose_template(base, Vocabulary.open(base.path), None)
    return prepare(path, DataOptions(held_out=0.0), template, MAX_LENGTH, folder)


def _first_of_each(data: Prepared) -> list[Row]:
    """Weighed alike: a reward says how much to learn from an answer, not how to judge it."""
    classes = np.asarray(data.train.classes)
    chosen = np.concatenate(
        [np.flatnonzero(classes == index)[:JUDGED] for index in np.unique(classes)]
    )
    rows = [data.train[int(index)] for index in chosen]
    return [
        Row(row.ids, (row.weights > 0).astype(np.float32), row.class_index, row.line)
        for row in rows
    ]


def _learned(
    backend: Backend, data: Prepared, judged: list[Row], seed: int
) -> tuple[dict[int, float], dict[int, float]]:
    """Loss by class, before and after."""
    trainer = backend.make(
        read_gguf(starter()), LoraConfig(), OptimizerConfig(),
        seed=seed, checkpointing=False, quantised=False,
    )  # fmt: skip
    before = _loss(trainer, judged)
    rows = data.train
    layout = Layout(TOKENS_PER_STEP, TOKENS_PER_STEP, MAX_LENGTH, packing=False)
    for step in plan_epoch(rows.lengths, rows.classes, seed, 0, layout)[:STEPS]:
        trainer.step([build_batch(rows, each.groups, each.columns) for each in step], RATE)
    return before, _loss(trainer, judged)


def _loss(trainer: Trainer, rows: list[Row]) -> dict[int, float]:
    sums: dict[int, np.ndarray] = {}
    for index in range(len(rows)):
        for number, found in trainer.evaluate(build_batch(rows, [(index,)])).items():
            sums.setdefault(number, np.zeros(2))
            sums[number] += np.array([found.loss, found.tokens])
    return {number: float(loss / tokens) for number, (loss, tokens) in sums.items()}


if __name__ == "__main__":
    main()
