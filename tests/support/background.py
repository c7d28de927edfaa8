"""Runs in the background as their files tell of them, in whatever state a test needs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from openchat_local.finetune.backends.trainer import ClassSums, StepResult
from openchat_local.finetune.data.epoch import Layout
from openchat_local.finetune.data.policy import ClassRule
from openchat_local.finetune.data.report import DataReport, Lengths, SplitReport
from openchat_local.finetune.run.checkpoints import Progress
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.finetune.run.events import (
    BackgroundEvent,
    Closed,
    DataRead,
    Done,
    Ending,
    Failed,
    NoticeEvent,
    Outcome,
    Ready,
    StepEvent,
    ValidationEvent,
)
from openchat_local.finetune.run.ownership import EVENTS
from openchat_local.finetune.run.plan import Plan
from openchat_local.finetune.run.registry import FOLDER, Entry, Registry
from openchat_local.finetune.run.wire import metrics_record, pack_event

GOOD, BAD = 0, 1
PLAN = Plan(Layout(256, 128, 2048, True), 8, 1.0, 8, False, 0, 1 << 32, 1 << 30, 2.0, 4)


def sums(loss: float, reward: float = 1.0) -> ClassSums:
    """Ten tokens of this mean loss."""
    return ClassSums(10 * loss * reward, 10 * reward, 10 * loss, 10, 5)


def step(number: int, good: float, bad: float | None = None) -> StepEvent:
    classes = {GOOD: sums(good)} | ({} if bad is None else {BAD: sums(bad, 0.1)})
    return StepEvent(number, 0, 2e-4, StepResult(good, 1.0, classes), 2.0, 400, 100, 1 << 30)


def tried(number: int, good: float, bad: float | None = None) -> ValidationEvent:
    classes = {GOOD: sums(good)} | ({} if bad is None else {BAD: sums(bad, 0.1)})
    return ValidationEvent(number, good, classes, True)


def data_read(*classes: str) -> DataRead:
    rules = tuple(ClassRule(name, name, 1.0) for name in classes)
    split = SplitReport("rows.jsonl", 8, 8, 400, 100, (), Lengths(20, 40, 50), 0, {}, 0)
    return DataRead(rules, DataReport(split, split, {}, 0, 0, (), 2048, "chatml", {}))


def ready(steps: int = 8, step: int = 0, notes: tuple[str, ...] = ()) -> Ready:
    return Ready(replace(PLAN, steps=steps), "mlx", notes, step)


def done(ending: Ending = "finished", step: int = 8) -> Done:
    return Done(Outcome(ending, Progress(step=step)))


@dataclass
class Told:
    """A run whose process this test is: `tell` adds to what it has told."""

    run: RunDirectory
    entry: Entry
    registry: Registry
    lock: int | None = None

    def hold(self) -> None:
        """Be the living process that has it in hand."""
        self.lock = self.registry.take(self.entry.id)
        assert self.lock is not None

    def let_go(self) -> None:
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def tell(self, *events: BackgroundEvent) -> None:
        with (self.run.path / EVENTS).open("a") as file:
            for event in events:
                file.write(json.dumps(pack_event(event)) + "\n")
                if isinstance(event, (StepEvent, ValidationEvent, NoticeEvent)):
                    self.run.add_metrics(metrics_record(event))
        match events[-1]:
            case Closed(_, sentence):
                self.registry.close(replace(self.entry, sentence=sentence))
            case Failed(_, text):
                self.registry.close(replace(self.entry, problem=text))


def begun(home: Path, name: str, *classes: str, at: float = 1.0) -> Told:
    """A run of this name, of which nothing is told yet; no process has it in hand."""
    settings = {
        "name": name,
        "begun": at,
        "settings": {"base": "/models/tiny.gguf", "data": "/data/rows.jsonl"},
        "classes": [{"name": each} for each in classes],
        "plan": {"steps": 8},
    }
    run = RunDirectory.create(home / "runs" / name, settings)
    registry = Registry(home)
    entry = Entry(run.settings()["id"], name, f"runs/{name}", at)
    (home / FOLDER).mkdir(exist_ok=True)
    registry.add(entry)
    return Told(run, entry, registry)


@contextmanager
def at_work(told: Told) -> Iterator[Told]:
    """Within the block, or until it is let go, a living process has the run in hand."""
    told.hold()
    try:
        yield told
    finally:
        told.let_go()
