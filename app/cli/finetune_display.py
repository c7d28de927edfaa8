"""A training run on the terminal: the data, the plan, and how it goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from openchat_local.app.cli.finetune_curve import curve
from openchat_local.app.cli.progress import Bar, error_console
from openchat_local.app.printable import printable
from openchat_local.finetune.run.pace import WINDOW, seconds_left
from openchat_local.finetune.run.run_state import STARTING
from openchat_local.models.units import memory_in_words, time_in_words

if TYPE_CHECKING:
    from openchat_local.finetune.backends.trainer import ClassSums
    from openchat_local.finetune.run.events import (
        BackgroundEvent,
        DataRead,
        Ready,
        Standstill,
        StepEvent,
        ValidationEvent,
    )
    from openchat_local.finetune.run.plan import Plan

CURVE_ROWS = 5
# The bar, three lines of figures and the curve, and something of what was said before.
ROWS_FOR_CURVE = 16
SHORTEST_NAME = 4
STANDING = {
    "giving way": "Training stands still while a reply is written.",
    "paused": "Training is paused.",
}


class Display:
    """Shows a run's events: a live picture at a terminal, a line every so often in a pipe."""

    def __init__(self) -> None:
        self._classes: list[str] = []
        self._plan: Plan | None = None
        self._recent: deque[StepEvent] = deque(maxlen=WINDOW)
        self._trained: list[tuple[float, float]] = []
        self._held_out: list[tuple[float, float]] = []
        self._step_now = 0
        self._standing: str | None = None
        self._said_that_it_gives_way = False
        self._console = error_console()
        self._bar = Bar("starting", console=self._console, below=self._below)

    def __enter__(self) -> Display:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        """A line that stays."""
        # In a pipe a line is a line, however wide somebody's terminal is.
        self._console.print(printable(text), soft_wrap=not self._console.is_terminal)

    def phase(self, name: str, fraction: float | None) -> None:
        """What is being done now."""
        if self._bar.label != name:
            self._recent.clear()
            if not self._console.is_terminal:
                self.say(f"{name[:1].upper()}{name[1:]} …")
            self._bar.begin(name, None if fraction is None else 1.0)
        self._bar.show(fraction or 0.0)

    def show(self, event: BackgroundEvent) -> None:
        """One event of `Training.events`, or of a run in the background."""
        from openchat_local.finetune.run import events

        match event:
            case events.Phase(name, fraction):
                self._standing = None if name == STARTING else self._standing
                self.phase(name, fraction)
            case events.DataRead():
                self._data_read(event)
            case events.Ready():
                self._ready(event)
            case events.StepEvent():
                self._step(event)
            case events.ValidationEvent():
                self._validation(event)
            case events.NoticeEvent():
                self.say(event.text)
            case events.Halted(why):
                self._halted(why)
            case events.WentOn():
                self._standing = None
            case events.Done(outcome) if outcome is not None and self._console.is_terminal:
                for line in self._curve():
                    self.say(line)
                self._trained.clear()

    def _data_read(self, event: DataRead) -> None:
        from openchat_local.app.cli.data_report import data_report

        self._classes = [printable(rule.name) for rule in event.classes]
        self._console.print(data_report(event.report))

    def _ready(self, event: Ready) -> None:
        for line in plan_lines(event):
            self.say(line)
        self._plan = event.plan
        self._step_now = event.step
        for points in (self._trained, self._held_out):  # what comes after is made again
            points[:] = [point for point in points if point[0] <= event.step]
        self._bar.begin("training", event.plan.steps)
        self._bar.show(event.step, self._time_left())

    def _step(self, event: StepEvent) -> None:
        self._recent.append(event)
        self._step_now = event.step
        shown = [one.result.loss for one in self._recent]
        self._trained.append((event.step, sum(shown) / len(shown)))
        now, left = f"step {event.step:,} of {self._steps:,}", self._time_left()
        self._bar.show(event.step, left, label=now)
        if not self._console.is_terminal and event.step % WINDOW == 0:
            figures = "; ".join(self._figures(10_000))
            self.say(f"{now}: {figures}{f'; {left}' if event.step < self._steps else ''}")

    def _halted(self, why: Standstill) -> None:
        self._standing = STANDING[why]
        if self._console.is_terminal:
            return  # the line under the bar comes and goes
        if why != "giving way" or not self._said_that_it_gives_way:
            self._said_that_it_gives_way |= why == "giving way"
            self.say(self._standing)

    @property
    def _steps(self) -> int:
        return 1 if self._plan is None else self._plan.steps

    def _time_left(self) -> str | None:
        """In words; the plan's own measure until some steps were made."""
        plan = self._plan
        if plan is None:
            return None
        left = plan.steps - self._step_now
        recent = [event.seconds for event in self._recent]
        seconds = seconds_left(left, plan.steps, recent, plan.step_seconds, plan.validating_seconds)
        return None if seconds is None else f"about {time_in_words(seconds)} left"

    def _below(self) -> list[str]:
        """What stands under the bar."""
        lines = self._figures(self._console.width)
        if self._standing is not None:
            lines = [self._standing, *lines]
        if lines and self._console.height >= ROWS_FOR_CURVE:
            lines += self._curve()
        return lines

    def _curve(self) -> list[str]:
        return curve(
            self._trained, self._held_out,
            steps=self._steps, width=self._console.width - 1, height=CURVE_ROWS,
        )  # fmt: skip

    def _figures(self, width: int) -> list[str]:
        """The last steps together, in lines of at most `width`; empty where there are none."""
        recent = list(self._recent)
        if not recent:
            return []
        seconds = sum(event.seconds for event in recent) or 1e-9
        speed = sum(event.tokens for event in recent) / seconds
        supervised = sum(event.supervised for event in recent) / seconds
        memory = memory_in_words(recent[-1].peak_memory)
        sums = [event.result.classes for event in recent]
        rate = recent[-1].learning_rate
        machine = (
            f"{speed:,.0f} tokens/s, {supervised:,.0f} of them learned; "
            f"{memory} of memory; rate {rate:.1e}"
        )
        return [*class_lines(sums, self._classes, width), machine]

    def _validation(self, event: ValidationEvent) -> None:
        if event.step >= self._step_now:
            self._held_out.append((event.step, event.loss))
        best = ", the best so far" if event.best and event.step else ""
        width = self._console.width if self._console.is_terminal else 10_000
        self.say(f"Held-out loss after step {event.step:,}: {event.loss:.4f}{best}")
        if len(self._classes) > 1:
            for line in class_lines([event.classes], self._classes, width - 2):
                self.say(f"  {line}")


def plan_lines(ready: Ready) -> list[str]:
    """The plan in sentences."""
    plan, layout = ready.plan, ready.plan.layout
    how = "packed" if layout.packing else "one conversation a row"
    checkpointing = ", with checkpointing" if plan.checkpointing else ""
    steps = (
        f"{plan.steps:,} steps ({plan.epochs:.1f} epochs) of about "
        f"{layout.tokens_per_step:,} tokens, in batches of {layout.tokens_per_batch:,} "
        f"positions, {how}{checkpointing}."
    )
    memory = (
        f"Memory: {memory_in_words(plan.predicted_bytes)} predicted, "
        f"{memory_in_words(plan.measured_bytes)} measured on the longest batch, "
        f"{memory_in_words(plan.available_bytes)} free."
    )
    time = (
        f"Time: about {time_in_words(plan.seconds)}, of which "
        f"{time_in_words(plan.validating_seconds)} for validation."
    )
    return [f"Backend {ready.backend}.", steps, memory, time, *ready.notes]


def class_lines(
    sums: Sequence[Mapping[int, ClassSums]], names: Sequence[str], width: int
) -> list[str]:
    """Loss a token, and the share of right predictions, of each class, in two lines of at most
    `width` columns: names are shortened for that, numbers never, and what has no room is
    counted."""
    losses, right = [], []
    for index, name in enumerate(names):
        found = [classes[index] for classes in sums if index in classes]
        tokens = sum(one.tokens for one in found)
        if tokens:
            losses.append((name, f"{sum(one.loss for one in found) / tokens:.3f}"))
            right.append((name, f"{sum(one.correct for one in found) / tokens:.0%}"))
    if not losses:
        return []
    return [_row("loss a token:", losses, width), _row("right tokens:", right, width)]


def _row(label: str, values: Sequence[tuple[str, str]], width: int) -> str:
    """`label` and as many `values` by name as there is room for."""
    from rich.cells import cell_len

    shown = list(values)
    while True:
        left_out = len(values) - len(shown)
        more = f", and {left_out} more" if left_out else ""
        room = width - len(label) - len(more) - sum(len(value) + 3 for _, value in shown)
        lengths = [cell_len(name) for name, _ in shown]
        longest = max(lengths)
        while longest > SHORTEST_NAME and sum(min(one, longest) for one in lengths) > room:
            longest -= 1
        if sum(min(one, longest) for one in lengths) <= room or len(shown) == 1:
            break
        shown.pop()
    parts = (f"{_shortened(name, longest)} {value}" for name, value in shown)
    return f"{label} {', '.join(parts)}{more}"


def _shortened(name: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return name if cell_len(name) <= width else set_cell_size(name, width - 1).rstrip() + "…"
