"""What a run tells crosses to the app as it was, and stays readable in metrics.jsonl."""

from __future__ import annotations

import json

import pytest

from openchat_local.finetune.backends.trainer import ClassSums, StepResult
from openchat_local.finetune.data.epoch import Layout
from openchat_local.finetune.data.policy import ClassRule
from openchat_local.finetune.data.report import DataReport, Lengths, SplitReport
from openchat_local.finetune.run.checkpoints import Progress
from openchat_local.finetune.run.events import (
    DataRead,
    Done,
    Failed,
    NoticeEvent,
    Outcome,
    Phase,
    Ready,
    StepEvent,
    Unwritten,
    ValidationEvent,
    WorkerEvent,
)
from openchat_local.finetune.run.plan import Plan
from openchat_local.finetune.run.report import render_report
from openchat_local.finetune.run.wire import metrics_record, pack_event, unpack_event

SUMS = {0: ClassSums(1.5, 2.0, 3.5, 4, 1), 11: ClassSums(0.1, 0.2, 0.3, 5, 2)}
STEP = StepEvent(3, 0, 2e-4, StepResult(1.25, 0.5, SUMS), 0.75, 100, 60, 2**31)
VALIDATION = ValidationEvent(4, 1.5, SUMS, best=True)
SPLIT = SplitReport(
    "data.jsonl", 2, 4, 50, 20, (), Lengths(5, 6, 7), truncated=0, dropped={"no weight": 1},
    duplicates=1,
)  # fmt: skip
REPORT = DataReport(
    SPLIT, SPLIT, {"openai": 2}, 0, 1, ("line 3: a \udce9 fault",), 128, "chatml", {"data": "ab"},
    remarks=("A remark.",),
)  # fmt: skip
EVENTS: list[WorkerEvent] = [
    Phase("reading the data", 0.5),
    Phase("writing"),
    DataRead((ClassRule("gpt4", "GPT4 Correct", 1.0), ClassRule("gpt35", "", 0.1)), REPORT),
    Ready(
        Plan(Layout(512, 256, 64, True), 10, 1.0, 10, False, 1, 2), "mlx: the CPU", ("Note.",), 3
    ),
    STEP,
    VALIDATION,
    NoticeEvent(2, "Out of memory: the batch is halved."),
    Done(Outcome("finished", Progress(step=10, best_loss=1.5, best_step=8))),
    Done(None),
    Failed("DataError", "Line 4 is no JSON: mend it."),
    Unwritten("the disk is full"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_is_the_same_on_the_other_side(event: WorkerEvent) -> None:
    assert unpack_event(json.loads(json.dumps(pack_event(event)))) == event


def test_what_is_no_event_is_refused() -> None:
    with pytest.raises(ValueError, match="no such event: Surprise"):
        unpack_event({"type": "Surprise"})


def test_the_lines_of_metrics_have_the_fields_that_they_always_had() -> None:
    step, validation = (json.loads(json.dumps(metrics_record(e))) for e in (STEP, VALIDATION))
    one = {"weighted_loss": 1.5, "weight": 2.0, "loss": 3.5, "tokens": 4, "correct": 1}
    assert step.pop("result").pop("classes")["0"] == one
    assert step == {
        "kind": "step", "step": 3, "epoch": 0, "learning_rate": 2e-4, "seconds": 0.75,
        "tokens": 100, "supervised": 60, "peak_memory": 2**31,
    }  # fmt: skip
    assert validation.pop("classes").keys() == {"0", "11"}
    assert validation == {"kind": "validation", "step": 4, "loss": 1.5, "best": True}
    notice = metrics_record(NoticeEvent(2, "Halved."))
    assert notice == {"kind": "notice", "step": 2, "text": "Halved."}


def test_lines_of_another_version_are_read() -> None:
    lines = [metrics_record(STEP) | {"more": 1}, metrics_record(VALIDATION)]
    lines[1].pop("best")
    assert "held-out" in render_report({}, json.loads(json.dumps(lines)))
