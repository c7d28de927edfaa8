"""How a run in the background stands: what its events come to.

From JSON as it is in events.jsonl, and nothing heavy imported: a window asks several times a
second, and first of all when it opens.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from openchat_local.finetune.run.pace import WINDOW, seconds_left

if TYPE_CHECKING:
    from openchat_local.finetune.run.events import Outcome

# Phases by name: the first of every process that has a run in hand, and the one after the steps.
STARTING, WRITING = "starting", "writing the adapter"

RunPhase = Literal[
    "preparing", "training", "finishing", "giving way", "paused", "ended", "failed", "interrupted"
]


@dataclass(frozen=True, slots=True)
class RunState:
    """How a run stands. "finishing" is what comes after the last step; "interrupted" says that
    its process is gone, so that it can be resumed.

    `step` of `steps` are made (0 of 0 while that is not known), `memory` is in bytes, `sentence`
    what a person should know now, `problem` what ended it, `outcome` how training ended.
    """

    phase: RunPhase
    step: int = 0
    steps: int = 0
    seconds_left: float | None = None
    tokens_per_second: float | None = None
    memory: int | None = None
    sentence: str = ""
    problem: str | None = None
    outcome: Outcome | None = None

    @property
    def at_work(self) -> bool:
        """Whether a living process has it in hand."""
        return self.phase not in ("ended", "failed", "interrupted")


def as_frame(line: bytes) -> dict[str, Any]:
    """A line of events.jsonl; {} where a power cut has left something else there."""
    try:
        frame = json.loads(line)
    except ValueError:
        return {}
    return frame if isinstance(frame, dict) and "type" in frame else {}


class Tally:
    """What the lines of events.jsonl come to, one after the other."""

    def __init__(self) -> None:
        self._plan: Mapping[str, Any] = {}
        self._step = 0
        self._doing = STARTING
        self._share: float | None = None
        self._phase: RunPhase = "preparing"
        self._halted: Literal["giving way", "paused"] | None = None
        self._recent: deque[bytes] = deque(maxlen=WINDOW)
        self._held_out: list[tuple[int, float]] = []
        self._outcome: Mapping[str, Any] | None = None
        self.last: Mapping[str, Any] | None = None  # the last word, if it was told

    def add(self, line: bytes) -> None:
        """A whole line."""
        if line.startswith(b'{"type": "StepEvent"'):  # by far the most: only the last are read
            self._recent.append(line)
            return
        fields = as_frame(line)
        match fields and fields["type"]:
            case "Phase":
                if fields["name"] == STARTING:  # what the last process was at is over
                    self._recent.clear()
                    self._outcome = self.last = self._halted = None
                self._doing, self._share = fields["name"], fields["fraction"]
                after = self._outcome is not None or self._doing == WRITING
                self._phase = "finishing" if after else "preparing"
            case "Ready":
                self._plan, self._step, self._phase = fields["plan"], fields["step"], "training"
                self._held_out = [one for one in self._held_out if one[0] <= self._step]
            case "ValidationEvent":
                self._held_out.append((fields["step"], fields["loss"]))
            case "Halted":
                self._halted = fields["why"]
            case "WentOn":
                self._halted = None
            case "Done":
                self._outcome, self._phase, self._halted = fields["outcome"], "finishing", None
            case "Failed" | "Closed":
                self.last = fields

    def state(self, *, stopping: bool = False) -> RunState:
        """While a process has the run in hand; `stopping` if it was asked to stop."""
        recent = [frame for line in self._recent if (frame := as_frame(line))]
        seconds = sum(step["seconds"] for step in recent)
        step = recent[-1]["step"] if recent else self._step
        steps = self._plan.get("steps", 0)
        state = RunState(
            phase=self._halted or self._phase,
            step=step,
            steps=steps,
            seconds_left=(
                self._seconds_left(steps, steps - step, recent)
                if self._phase == "training" and steps
                else None
            ),
            tokens_per_second=sum(s["tokens"] for s in recent) / seconds if seconds else None,
            memory=recent[-1]["peak_memory"] if recent else None,
            outcome=self._as_outcome(),
        )
        return replace(state, sentence=self._sentence(state, stopping))

    def _seconds_left(
        self, steps: int, left: int, recent: Sequence[Mapping[str, Any]]
    ) -> float | None:
        plan = self._plan
        validating = (plan["validations"] + 1) * plan["validation_seconds"]
        each = [step["seconds"] for step in recent]
        return seconds_left(left, steps, each, plan["step_seconds"], validating)

    def _as_outcome(self) -> Outcome | None:
        if self._outcome is None:
            return None
        from openchat_local.finetune.run.checkpoints import Progress
        from openchat_local.finetune.run.events import Outcome

        return Outcome(self._outcome["ending"], Progress(**self._outcome["progress"]))

    def _sentence(self, state: RunState, stopping: bool) -> str:
        if stopping and state.phase != "finishing":
            return "It stops after this step; what was learned is kept."
        match state.phase:
            case "giving way":
                return "It waits while a reply is written."
            case "paused":
                return "It is paused; nothing is lost."
            case "preparing" | "finishing":
                share = "" if not self._share else f" ({self._share:.0%})"
                return f"{self._doing[:1].upper()}{self._doing[1:]}{share} …"
        return self.learning()

    def learning(self) -> str:
        """What the held-out losses say so far, for someone who has never heard of a loss."""
        if len(self._held_out) < 2:
            return "It is learning; whether that helps is measured now and then."
        first = self._held_out[0][1]
        step, best = min(self._held_out, key=lambda one: one[1])
        if best >= first:
            return "On replies that it has not seen it is no better yet than before."
        return (
            f"On replies that it has not seen it is better than before: {first:.3f} then, "
            f"{best:.3f} after step {step:,} (lower is better)."
        )
