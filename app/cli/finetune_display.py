"""A training run on the terminal: the data, the plan, and how it goes."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from openchat_local.app.printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

WINDOW = 20  # steps that the figures are averaged over


class Display:
    """Shows a run's events: a live line at a terminal, a line every so often in a pipe."""

    def __init__(self) -> None:
        from rich.console import Console

        self._classes: list[str] = []
        self._steps = 0
        self._recent: deque[dict[str, Any]] = deque(maxlen=WINDOW)
        self._console = Console(file=sys.stderr, highlight=False, markup=False)
        self._progress = _progress(self._console, self._figures)
        self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        # In a pipe a line is a line, however wide somebody's terminal is.
        self._console.print(printable(text), soft_wrap=not self._console.is_terminal)

    def phase(self, name: str, fraction: float | None) -> None:
        """What is being done now."""
        total = None if fraction is None else 1.0
        self._progress.update(self._task, description=name, total=total, completed=fraction or 0.0)
        self._recent.clear()

    def show(self, event: dict[str, Any]) -> None:
        """One event of `Training.events`."""
        match event["type"]:
            case "Phase":
                self.phase(event["name"], event["fraction"])
            case "DataRead":
                self._data_read(event)
            case "Ready":
                self._ready(event)
            case "StepEvent":
                self._step(event)
            case "ValidationEvent":
                self._validation(event)
            case "NoticeEvent":
                self.say(event["text"])

    def _data_read(self, event: dict[str, Any]) -> None:
        from openchat_local.app.cli.data_report import data_report
        from openchat_local.finetune.data.report import DataReport

        report = DataReport.from_json(event["data"])
        self._classes = [rule["name"] for rule in event["classes"]]
        self._console.print(data_report(report))

    def _ready(self, event: dict[str, Any]) -> None:
        for line in plan_lines(event):
            self.say(line)
        self._steps = event["plan"]["steps"]
        self._progress.update(self._task, description="training", total=self._steps, completed=0)

    def _step(self, event: dict[str, Any]) -> None:
        self._recent.append(event)
        self._progress.update(
            self._task,
            description=f"step {event['step']:,} of {self._steps:,}",
            total=self._steps,
            completed=event["step"],
        )
        if not self._console.is_terminal and event["step"] % WINDOW == 0:
            self.say(f"step {event['step']:,} of {self._steps:,}  {self._figures()}")

    def _figures(self) -> str:
        """The last steps together; empty where there are none."""
        recent = list(self._recent)
        if not recent:
            return ""
        seconds = sum(event["seconds"] for event in recent) or 1e-9
        speed = sum(event["tokens"] for event in recent) / seconds
        supervised = sum(event["supervised"] for event in recent) / seconds
        memory = recent[-1]["peak_memory"] / 1024**3
        return (
            f"{_losses([event['result']['classes'] for event in recent], self._classes)}  "
            f"{speed:,.0f} tokens/s ({supervised:,.0f} learned)  {memory:.1f} GiB"
        )

    def _validation(self, event: dict[str, Any]) -> None:
        classes = _losses([event["classes"]], self._classes)
        mark = "  best" if event["best"] and event["step"] else ""
        self.say(f"held out after step {event['step']:,}: {event['loss']:.4f}  {classes}{mark}")


def _progress(console: Console, figures: Callable[[], str]) -> Progress:
    """A bar, and below it a line of figures: together they do not fit into 80 columns."""
    from rich.console import RenderableType
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class TwoLines(Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            if text := figures():
                yield Text(text, no_wrap=True, overflow="ellipsis")

    description = TextColumn("{task.description}", markup=False)
    remaining = TimeRemainingColumn(compact=True)
    return TwoLines(description, BarColumn(40), remaining, console=console, transient=True)


def plan_lines(event: dict[str, Any]) -> list[str]:
    """The plan in sentences."""
    plan = event["plan"]
    layout = plan["layout"]
    gib = 1024**3
    how = "packed" if layout["packing"] else "one conversation a row"
    checkpointing = ", with checkpointing" if plan["checkpointing"] else ""
    steps = (
        f"{plan['steps']:,} steps ({plan['epochs']:.1f} epochs) of about "
        f"{layout['tokens_per_step']:,} tokens, in batches of {layout['tokens_per_batch']:,} "
        f"positions, {how}{checkpointing}."
    )
    memory = (
        f"Memory: {plan['predicted_bytes'] / gib:.1f} GiB predicted, "
        f"{plan['measured_bytes'] / gib:.1f} GiB measured on the longest batch, "
        f"{plan['available_bytes'] / gib:.1f} GiB free."
    )
    validating = (plan["validations"] + 1) * plan["validation_seconds"]
    seconds = plan["steps"] * plan["step_seconds"] + validating
    time = f"Time: about {_duration(seconds)}, of which {_duration(validating)} for validation."
    lines = [f"Backend {event['backend']}.", steps, memory, time]
    return [*lines, *event["notes"]]


def _losses(sums: list[dict[str, Any]], names: list[str]) -> str:
    """Loss a token and, in brackets, the share of right predictions of each class."""
    parts = []
    for index, name in enumerate(names):
        found = [record[str(index)] for record in sums if str(index) in record]
        tokens = sum(one["tokens"] for one in found)
        if tokens:
            loss = sum(one["loss"] for one in found) / tokens
            right = sum(one["correct"] for one in found) / tokens
            parts.append(f"{printable(name)} {loss:.3f} ({right:.0%})")
    return "  ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
