"""A run that is gone on with for longer: what may change, and the rates it goes on at."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.data.epoch import Layout
from openchat_local.finetune.run.checkpoints import Progress
from openchat_local.finetune.run.directory import RunError
from openchat_local.finetune.run.extension import EXTENDED, Limits, extended, schedule_of
from openchat_local.finetune.run.plan import Plan, tiny_notes
from openchat_local.finetune.run.schedule import Schedule
from openchat_local.finetune.run.settings import RunSettings

PLAN = Plan(
    Layout(512, 512, 128, packing=False), steps=100, epochs=2.0, steps_per_epoch=50,
    checkpointing=False, predicted_bytes=0, available_bytes=0, step_seconds=3.0, validations=10,
)  # fmt: skip
DONE = Progress(step=100, epoch=2, seconds=300.0)


def fields(plan: Plan | None = PLAN, **changes: Any) -> dict[str, Any]:
    settings = RunSettings(**{"name": "r", "base": Path("b"), "data": Path("d")} | changes)
    stored = None if plan is None else asdict(plan)
    return {"name": "r", "settings": settings.as_json(), "plan": stored}


def test_a_finished_run_is_extended_and_its_rate_told() -> None:
    found, said = extended(fields(steps=100), DONE, Limits(steps=200))
    assert found["plan"]["steps"] == 200
    assert found["plan"]["epochs"] == 4.0
    assert found["plan"]["validations"] == 20
    assert found["settings"]["steps"] == 200
    assert found[EXTENDED]["step"] == 100
    assert said is not None
    assert said.startswith("Extended from 100 to 200 steps, of which 100 are made")
    assert "2.0e-05 up to 1.1e-04" in said


@pytest.mark.parametrize(
    ("limits", "steps"),
    [(Limits(epochs=3), 150), (Limits(minutes=10), 200), (Limits(epochs=9, steps=170), 170)],
)
def test_limits_count_from_the_beginning_and_the_first_ends_it(limits: Limits, steps: int) -> None:
    found, _ = extended(fields(), DONE, limits)
    assert found["plan"]["steps"] == steps


@pytest.mark.parametrize("limits", [Limits(steps=80), Limits(epochs=1), Limits(minutes=1)])
def test_what_is_made_already_cannot_be_taken_back(limits: Limits) -> None:
    with pytest.raises(RunError, match="has made 100 of 100 steps"):
        extended(fields(), DONE, limits)


def test_a_run_may_be_shortened_to_what_it_has_not_reached() -> None:
    found, said = extended(fields(), Progress(step=50), Limits(steps=60))
    assert found["plan"]["steps"] == 60
    assert said is not None
    assert said.startswith("Shortened from 100 to 60")


def test_without_other_limits_nothing_changes() -> None:
    before = fields(steps=100)
    assert extended(before, DONE, Limits()) == (before, None)
    assert extended(before, DONE, Limits(steps=100)) == (before, None)
    before = fields(minutes=30.0)
    assert extended(before, DONE, Limits(minutes=30.0)) == (before, None)


def test_a_run_that_was_not_planned_yet_is_planned_with_the_new_limits() -> None:
    found, _ = extended(fields(plan=None, steps=100), Progress(), Limits(steps=7))
    assert found["settings"]["steps"] == 7
    assert found["plan"] is None


def test_a_run_that_stopped_early_needs_more_patience() -> None:
    stopped = replace(DONE, stale=3)
    with pytest.raises(RunError, match="--patience 4"):
        extended(fields(patience=3), stopped, Limits(steps=200))
    found, _ = extended(fields(patience=3), stopped, Limits(steps=200, patience=5))
    assert found["settings"]["patience"] == 5


def test_the_rate_goes_on_from_where_it_was_to_that_of_a_run_of_the_new_length() -> None:
    found, _ = extended(fields(), DONE, Limits(steps=200))
    settings = RunSettings.from_json(found["settings"])
    plan = replace(PLAN, steps=200)
    rates = [schedule_of(settings, plan, found[EXTENDED]).rate(step) for step in range(201)]
    whole = [Schedule(2e-4, 200).rate(step) for step in range(201)]
    assert found[EXTENDED]["rate"] == Schedule(2e-4, 100).rate(99)
    assert found[EXTENDED]["rate"] < rates[100] < rates[104]
    assert rates[104:] == pytest.approx(whole[104:])


@given(
    st.integers(1, 300), st.integers(1, 300), st.floats(0, 1), st.floats(0.01, 1.0),
    st.integers(0, 700),
)  # fmt: skip
def test_no_rate_is_above_the_peak(
    since: int, more: int, warmup: float, rate: float, step: int
) -> None:
    schedule = Schedule(1.0, since + more, warmup, since=since, since_rate=rate)
    assert 0 < schedule.rate(step) <= 1.0 + 1e-12


@pytest.mark.parametrize(
    ("steps", "epochs", "text"),
    [(3, 0.1, "3 steps for 10% of the data"), (1, 0.01, "1 step for 1%"), (3, 3.0, "Only 3 steps"),
     (40, 3.0, None), (10, 0.5, None)],
)  # fmt: skip
def test_a_tiny_plan_is_told_to_be_one(steps: int, epochs: float, text: str | None) -> None:
    notes = tiny_notes(replace(PLAN, steps=steps, epochs=epochs))
    assert [note.startswith(text or "") for note in notes] == ([True] if text else [])
