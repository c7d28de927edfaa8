"""What a run tells while it works: plain data, the same in its process and in the app's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from openchat_local.finetune.backends.trainer import ClassSums, StepResult
from openchat_local.finetune.data.policy import ClassRule
from openchat_local.finetune.data.report import DataReport
from openchat_local.finetune.run.checkpoints import Progress
from openchat_local.finetune.run.plan import Plan

Ending = Literal["finished", "stopped early", "interrupted", "not finite"]


@dataclass(frozen=True, slots=True)
class Phase:
    """What the run is doing, in a word or two, and how much of it is done (0 to 1)."""

    name: str
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class DataRead:
    """The data are read and checked; `classes` are the best first."""

    classes: tuple[ClassRule, ...]
    report: DataReport


@dataclass(frozen=True, slots=True)
class Ready:
    """The plan is known; `step` steps are made already, `notes` are sentences for the user."""

    plan: Plan
    backend: str
    notes: tuple[str, ...]
    step: int = 0


@dataclass(frozen=True, slots=True)
class StepEvent:
    """A step was made. `tokens` of it were read and `supervised` learned; memory in bytes."""

    step: int
    epoch: int
    learning_rate: float
    result: StepResult
    seconds: float
    tokens: int
    supervised: int
    peak_memory: int


@dataclass(frozen=True, slots=True)
class ValidationEvent:
    """The held-out loss was measured; `best` says whether it was the lowest so far."""

    step: int
    loss: float
    classes: Mapping[int, ClassSums]
    best: bool


@dataclass(frozen=True, slots=True)
class NoticeEvent:
    """Something that the user should read."""

    step: int
    text: str


LoopEvent = StepEvent | ValidationEvent | NoticeEvent
JobEvent = Phase | DataRead | Ready | LoopEvent


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended; the trainer then holds the adapter to keep."""

    ending: Ending
    progress: Progress


@dataclass(frozen=True, slots=True)
class Done:
    """The run is at its end; a dry one has no outcome."""

    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The run cannot go on: an error of `models.errors` or of a run, by its class's name."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Unwritten:
    """The run could not be written to disk, and why."""

    what: str


Standstill = Literal["giving way", "paused"]


@dataclass(frozen=True, slots=True)
class Halted:
    """The training process stands still: somebody gets a reply, or has paused the run."""

    why: Standstill


@dataclass(frozen=True, slots=True)
class WentOn:
    """It goes on after so many `seconds`, which count nowhere as time of training."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Closed:
    """The last word of a run in the background: the adapter is installed as `name`, None where
    nothing was learned; `sentence` says what the losses say of it."""

    name: str | None
    sentence: str


WorkerEvent = JobEvent | Done | Failed | Unwritten
"""What the training process sends."""

RunEvent = JobEvent | Done | Halted | WentOn
"""What whoever started a run gets to see."""

BackgroundEvent = RunEvent | Failed | Closed
"""What events.jsonl tells of a run in the background; the last is `Failed` or `Closed`."""
