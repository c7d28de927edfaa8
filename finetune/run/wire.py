"""A run's events as frames between processes, and as lines of metrics.jsonl and events.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from openchat_local.finetune.backends.trainer import ClassSums, StepResult
from openchat_local.finetune.data.policy import ClassRule
from openchat_local.finetune.data.report import DataReport
from openchat_local.finetune.run.checkpoints import Progress
from openchat_local.finetune.run.events import (
    BackgroundEvent,
    Closed,
    DataRead,
    Done,
    Failed,
    Halted,
    LoopEvent,
    NoticeEvent,
    Outcome,
    Phase,
    Ready,
    StepEvent,
    Unwritten,
    ValidationEvent,
    WentOn,
    WorkerEvent,
)
from openchat_local.finetune.run.plan import plan_from_json
from openchat_local.models.engine.wire import Frame

_KINDS = {StepEvent: "step", ValidationEvent: "validation", NoticeEvent: "notice"}


def metrics_record(event: LoopEvent) -> dict[str, Any]:
    """A line of metrics.jsonl: `kind` is step, validation or notice, the rest its fields.

    Whoever reads them takes the fields that they know: other versions may have more or fewer.
    """
    return {"kind": _KINDS[type(event)]} | asdict(event)


def pack_event(event: WorkerEvent | BackgroundEvent) -> Frame:
    return {"type": type(event).__name__} | asdict(event)


def unpack_told(frame: Frame) -> BackgroundEvent:
    """What `pack_event` gave of a `BackgroundEvent`, and JSON of that. Raises ValueError for
    anything else."""
    fields = {name: value for name, value in frame.items() if name != "type"}
    match frame["type"]:
        case "Halted":
            return Halted(**fields)
        case "WentOn":
            return WentOn(**fields)
        case "Closed":
            return Closed(**fields)
    event = unpack_event(frame)
    if isinstance(event, Unwritten):
        raise ValueError("no event of a run in the background: Unwritten")
    return event


def unpack_event(frame: Frame) -> WorkerEvent:
    """What `pack_event` gave of a `WorkerEvent`, and JSON of that. Raises ValueError for
    anything else."""
    fields = {name: value for name, value in frame.items() if name != "type"}
    match frame["type"]:
        case "Phase":
            return Phase(**fields)
        case "DataRead":
            rules = tuple(ClassRule(**rule) for rule in fields["classes"])
            return DataRead(rules, DataReport.from_json(fields["report"]))
        case "Ready":
            plan, notes = plan_from_json(fields["plan"]), tuple(fields["notes"])
            return Ready(**fields | {"plan": plan, "notes": notes})
        case "StepEvent":
            return StepEvent(**fields | {"result": _result(fields["result"])})
        case "ValidationEvent":
            return ValidationEvent(**fields | {"classes": _classes(fields["classes"])})
        case "NoticeEvent":
            return NoticeEvent(**fields)
        case "Done":
            return Done(_outcome(fields["outcome"]))
        case "Failed":
            return Failed(**fields)
        case "Unwritten":
            return Unwritten(**fields)
    raise ValueError(f"no such event: {frame['type']}")


def _result(fields: Mapping[str, Any]) -> StepResult:
    return StepResult(**dict(fields) | {"classes": _classes(fields["classes"])})


def _classes(fields: Mapping[Any, Mapping[str, Any]]) -> dict[int, ClassSums]:
    return {int(index): ClassSums(**sums) for index, sums in fields.items()}


def _outcome(fields: Mapping[str, Any] | None) -> Outcome | None:
    return None if fields is None else Outcome(fields["ending"], Progress(**fields["progress"]))
