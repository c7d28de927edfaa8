"""What the events of a run add up to: curves, figures, and what they mean in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openchat_local.finetune.run.directory import RunDirectory, RunError
from openchat_local.finetune.run.events import (
    BackgroundEvent,
    DataRead,
    Ending,
    NoticeEvent,
    Phase,
    Ready,
    StepEvent,
    ValidationEvent,
)
from openchat_local.finetune.run.run_state import STARTING
from openchat_local.finetune.run.wire import metrics_record

Point = tuple[float, float]
COMPARED = 10  # steps at most, at either end of a run without held-out data
HARDLY = 0.005  # of the loss: less than this is no difference to speak of


@dataclass(slots=True)
class Course:
    """A run as its events tell it. Points are (step, nats a token), by class in `trained` and
    `held_out`; `losses` are those that the run goes by: held out, all classes, weighed."""

    classes: tuple[str, ...] = ()
    phase: Phase | None = None
    step: int = 0
    steps: int = 0
    learning_rate: float = 0.0
    trained: dict[int, list[Point]] = field(default_factory=dict)
    held_out: dict[int, list[Point]] = field(default_factory=dict)
    losses: list[Point] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def take(self, event: BackgroundEvent) -> None:
        """Add what an event tells. Steps that are made again take the place of the first."""
        match event:
            case Phase(name):
                self.phase = event
                if name == STARTING:  # what was said of the run before it was resumed is over
                    self.notices.clear()
            case DataRead(classes):
                self.classes = tuple(rule.name for rule in classes)
            case Ready(plan, _, notes, step):
                self.phase, self.steps = None, plan.steps
                self._go_back_to(step)
                self._notice(notes)
            case StepEvent() | ValidationEvent() | NoticeEvent():
                self.phase = None
                self.take_record(metrics_record(event))

    def take_record(self, record: Mapping[str, Any]) -> None:
        """Add what a line of metrics.jsonl tells; one of a kind that is unknown tells nothing."""
        match record:
            case {"kind": "step", "step": int(step), "result": {"classes": classes}}:
                self._go_back_to(step - 1)
                self.step, self.learning_rate = step, float(record.get("learning_rate", 0.0))
                _add(self.trained, step, classes)
            case {"kind": "validation", "step": int(step), "loss": float(loss), "classes": classes}:
                self._go_back_to(step, held_out=step - 1)
                if math.isfinite(loss):
                    self.losses.append((step, loss))
                    _add(self.held_out, step, classes)
            case {"kind": "notice", "text": str(text)}:
                self._notice([text])

    def _notice(self, texts: Iterable[str]) -> None:
        self.notices += [text for text in texts if text not in self.notices]

    def _go_back_to(self, step: int, held_out: int | None = None) -> None:
        """Drop what came after `step`, and of the held-out losses after `held_out`."""
        self.step = min(self.step, step)
        for points in self.trained.values():
            _cut(points, step)
        for points in [self.losses, *self.held_out.values()]:
            _cut(points, step if held_out is None else held_out)

    @property
    def kept_step(self) -> int:
        """The step whose weights are kept: the best that was measured, else the last."""
        return int(min(self.losses, key=lambda point: point[1])[0]) if self.losses else self.step


def course_of(run: RunDirectory) -> Course:
    """The course of a run as its folder tells it, whoever trains or trained it. Raises RunError."""
    settings = run.settings()
    course = Course()
    try:
        course.classes = tuple(str(row["name"]) for row in settings.get("classes") or ())
        course.steps = int((settings.get("plan") or {}).get("steps") or 0)
        course._notice(map(str, (settings.get("data") or {}).get("notes") or ()))
        for record in run.metrics():
            course.take_record(record)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(
            f"What the run in {run.path} noted cannot be read ({error}): train again, or remove it."
        ) from error
    return course


def meaning(course: Course, ending: Ending | None = None) -> str:
    """What the losses say, for someone who has never heard of one; `ending` is how the run
    ended, None while it goes on.

    The mean loss of a token is its surprisal: how little the model expected the answer
    (Shannon, 1948).
    """
    if ending == "not finite":
        best = f"what it knew after step {course.kept_step:,} is kept"
        return f"The numbers got out of hand twice, so it stopped early; {best}."
    if not course.held_out:
        return _without_held_out(course, ended=ending is not None)
    if len(course.losses) == 1:
        if ending is not None:
            return "It ended before it could be checked whether it helped."
        return "Nothing to tell yet: the answers that were kept aside are tried again in a while."
    index = min(course.held_out)
    points = dict(course.held_out[index])
    first, kept = course.held_out[index][0][1], points.get(course.kept_step)
    if course.kept_step == course.losses[0][0] or kept is None:
        if ending is None:
            return f"So far the model finds {_answers(course)} no less surprising than before."
        return (
            f"It did not help: the model finds {_answers(course)} no less surprising than before, "
            "and stays as it was. More or better answers may help."
        )
    return f"The model finds {_answers(course)} {_compared(kept / first - 1, 'before')}."


def _without_held_out(course: Course, *, ended: bool) -> str:
    """From the best class's loss in training, which says nothing of other answers."""
    points = course.trained[min(course.trained)] if course.trained else []
    unknown = "none were kept aside, so nothing tells whether it helps with others"
    if len(points) < 2:
        if ended:
            return f"Too few steps to tell anything; {unknown}."
        return "Nothing to tell yet."
    count = min(COMPARED, max(1, len(points) // 4))
    first, last = _mean(points[:count]), _mean(points[-count:])
    change = last / first - 1 if first else 0.0
    surprise = _compared(change, "at the beginning")
    return f"It finds the answers that it learns from {surprise}; {unknown}."


def _compared(change: float, earlier: str) -> str:
    """ "12 % less surprising than before": `change` is that of the loss, as a share of it."""
    if abs(change) < HARDLY:
        return f"about as surprising as {earlier}"
    return f"{abs(change) * 100:.0f} % {'less' if change < 0 else 'more'} surprising than {earlier}"


def _answers(course: Course) -> str:
    if len(course.classes) < 2:
        return "your answers"
    aside = min(course.held_out)
    if any(index < aside for index in course.trained):  # no answer of the best class was kept
        return f"the answers kept aside, the best of them {course.classes[aside]},"
    return f"your good answers ({course.classes[aside]})"


def _mean(points: Sequence[Point]) -> float:
    return sum(y for _, y in points) / len(points)


def _add(curves: dict[int, list[Point]], step: int, classes: Mapping[Any, Any]) -> None:
    """The mean loss of each class's tokens; sums as JSON has them, or as they are here."""
    for index, sums in classes.items():
        if sums["tokens"] and math.isfinite(loss := sums["loss"] / sums["tokens"]):
            curves.setdefault(int(index), []).append((step, loss))


def _cut(points: list[Point], last: int) -> None:
    while points and points[-1][0] > last:
        points.pop()
