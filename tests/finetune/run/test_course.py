"""What the events of a run add up to, and what that means in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from openchat_local.finetune.run.course import Course, course_of, meaning
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.finetune.run.events import (
    BackgroundEvent,
    LoopEvent,
    NoticeEvent,
    ValidationEvent,
)
from openchat_local.finetune.run.wire import metrics_record
from support.background import BAD, GOOD, step, sums, tried


def course(events: Sequence[BackgroundEvent], *classes: str) -> Course:
    course = Course(classes=classes)
    for event in events:
        course.take(event)
    return course


def only_bad(number: int, loss: float) -> ValidationEvent:
    return ValidationEvent(number, loss, {BAD: sums(loss, 0.1)}, True)


def test_curves_are_by_class_in_nats_a_token() -> None:
    seen = course([tried(0, 2.0, 3.0), step(1, 1.9, 2.9), step(2, 1.8)], "good", "bad")
    assert seen.trained == {GOOD: [(1, 1.9), (2, 1.8)], BAD: [(1, 2.9)]}
    assert seen.held_out == {GOOD: [(0, 2.0)], BAD: [(0, 3.0)]}
    assert (seen.step, seen.learning_rate) == (2, 2e-4)


def test_steps_that_are_made_again_take_the_place_of_the_first() -> None:
    events = [tried(0, 2.0), step(1, 1.9), step(2, 1.8), tried(2, 1.7), step(3, 1.6)]
    again = [NoticeEvent(1, "going back"), step(2, 1.85), tried(2, 1.75)]
    seen = course([*events, *again])
    assert seen.trained[GOOD] == [(1, 1.9), (2, 1.85)]
    assert seen.held_out[GOOD] == seen.losses == [(0, 2.0), (2, 1.75)]
    assert (seen.step, seen.notices) == (2, ["going back"])


def test_what_is_not_finite_is_in_no_curve() -> None:
    seen = course([step(1, math.nan), tried(1, math.inf), step(2, 1.0)])
    assert seen.trained == {GOOD: [(2, 1.0)]}
    assert seen.held_out == {}


def test_the_folder_of_a_run_tells_the_same_as_its_events(tmp_path: Path) -> None:
    events = [tried(0, 2.0, 3.0), step(1, 1.9, 2.9), NoticeEvent(1, "smaller"), tried(1, 1.5, 3.0)]
    run = RunDirectory.create(
        tmp_path / "run", {"classes": [{"name": "good"}, {"name": "bad"}], "plan": {"steps": 4}}
    )
    for event in events:
        run.add_metrics(metrics_record(event))
    whole = course(events, "good", "bad")
    whole.steps = 4
    assert course_of(run) == whole


@pytest.mark.parametrize(
    ("events", "classes", "ending", "says"),
    [
        ([tried(0, 2.0), step(1, 1.9)], ["good", "bad"], None, "Nothing to tell yet"),
        ([tried(0, 2.0), tried(4, 1.76)], ["good", "bad"], None,
         "finds your good answers (good) 12 % less surprising than before"),
        ([step(1, 2.0), only_bad(0, 2.0), only_bad(4, 1.76)], ["good", "bad"], None,
         "finds the answers kept aside, the best of them bad, 12 % less surprising than before"),
        ([tried(0, 2.0), tried(4, 1.76)], ["all"], "finished",
         "finds your answers 12 % less surprising than before"),
        ([tried(0, 2.0), tried(4, 1.5), tried(8, 1.9)], ["all"], "finished", "25 % less"),
        ([tried(0, 2.0), tried(4, 2.1)], ["all"], None, "no less surprising than before"),
        ([tried(0, 2.0), tried(4, 2.1)], ["all"], "finished", "It did not help"),
        ([tried(0, 2.0)], ["all"], "interrupted", "before it could be checked"),
        ([tried(0, 2.0), tried(4, 1.999)], ["all"], "finished", "about as surprising as before"),
        ([step(n, 2.0 if n < 3 else 1.0) for n in range(1, 9)], ["all"], "finished",
         "50 % less surprising than at the beginning; none were kept aside"),
        ([step(1, 2.0)], ["all"], "finished", "Too few steps"),
        ([tried(0, 2.0), step(1, 1.0)], ["all"], "not finite", "step 0 is kept"),
        ([], [], None, "Nothing to tell yet"),
    ],
)  # fmt: skip
def test_what_the_losses_mean_in_plain_words(
    events: list[LoopEvent], classes: list[str], ending: str | None, says: str
) -> None:
    assert says in meaning(course(events, *classes), ending)  # type: ignore[arg-type]
