"""How long it will take and how much memory, tried out in a child: a run that trains nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openchat_local.app.learning.starting import (
    LearningError,
    LearningRequest,
    on_battery,
    run_fields,
    write_data,
)
from openchat_local.models.system.file_lock import try_lock
from openchat_local.models.units import memory_in_words, time_in_words

if TYPE_CHECKING:
    from openchat_local.app.learning.feedback import Lesson
    from openchat_local.finetune.data.report import DataReport
    from openchat_local.finetune.run.events import Ready
    from openchat_local.finetune.run.plan import Plan
    from openchat_local.finetune.run.supervisor import Training

FOLDER = "planning"
MOST_AT_ONCE = 16
"""Windows that plan at one time."""

TellPhase = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would take, by a `plan` whose costliest batch was tried. `rows` are learned
    from, `held_out` measured on; `notes` are sentences that a person should read."""

    plan: Plan
    rows: int
    held_out: int
    notes: tuple[str, ...] = ()
    on_battery: bool = False

    @property
    def memory(self) -> int:
        """Bytes at the peak of a step."""
        return max(self.plan.predicted_bytes, self.plan.measured_bytes)

    def in_words(self) -> str:
        """Time, memory and how often, in a sentence or two."""
        plan = self.plan
        often = f"{plan.epochs:.0f} times" if plan.epochs >= 1.5 else "once"
        if plan.epochs < 0.95:
            often = f"{plan.epochs:.0%}"
        kept = f", {self.held_out:,} kept back to measure on" if self.held_out else ""
        free = memory_in_words(plan.available_bytes)
        return (
            f"About {time_in_words(plan.seconds)} and {memory_in_words(self.memory)} of memory "
            f"({free} are free): {self.rows:,} rows {often} over, in "
            f"{plan.steps:,} steps{kept}."
        )


class Planning:
    """One dry run of what a request asks for. Its files go again, also those of one that was
    killed: they are removed when the next is made."""

    def __init__(self, request: LearningRequest, lessons: Sequence[Lesson], home: Path) -> None:
        self._request = request
        self._lessons = lessons
        self._home = home
        self._training: Training | None = None
        self._ended = False

    def run(self, tell: TellPhase = lambda _: None) -> Forecast:
        """Read the rows, load the model, try the longest batch; `tell` gets what is being done.
        It gives way to replies, as training does.

        Raises OpenChatError: why it could not be trained, or that it was ended.
        """
        from openchat_local.finetune.run.directory import RunDirectory
        from openchat_local.finetune.run.events import DataRead, Phase, Ready
        from openchat_local.finetune.run.giving_way import giving_way_in
        from openchat_local.finetune.run.supervisor import Training

        report: DataReport | None = None
        ready: Ready | None = None
        with _place(self._home) as place:
            folder = place / "run"
            run = RunDirectory.create(folder, run_fields(self._request, folder, self._home))
            try:
                write_data(self._request, self._lessons, folder)
            except OSError as error:
                raise LearningError(
                    f"The rows cannot be written in {folder} ({error.strerror}): make room."
                ) from error
            self._training = Training(run, dry=True, standing=giving_way_in(self._home))
            if self._ended:
                raise LearningError("Planning was ended.")
            with closing(self._training.events()) as events:
                for event in events:
                    match event:
                        case Phase(name):
                            tell(name)
                        case DataRead(_, found):
                            report = found
                        case Ready():
                            ready = event
        if ready is None or report is None:
            raise LearningError("Planning came to no end.")
        return _forecast(ready, report)

    @property
    def ended(self) -> bool:
        """Whether nobody wants to know any more."""
        return self._ended

    def end(self) -> None:
        """End it at once, from whichever thread."""
        self._ended = True
        if self._training is not None:
            self._training.end()


def _forecast(ready: Ready, report: DataReport) -> Forecast:
    cut = report.train.truncated + report.validation.truncated
    notes = []
    if cut:
        notes.append(
            f"Longer than the {report.context:,} tokens that are read of a row, and cut: {cut:,}."
        )
    if not report.validation.conversations:
        notes.append("Too few rows to keep one back: nothing will tell how well it goes.")
    return Forecast(
        ready.plan,
        report.train.conversations,
        report.validation.conversations,
        tuple(notes),
        on_battery(),
    )


@contextmanager
def _place(home: Path) -> Iterator[Path]:
    """A folder for one dry run, nobody else's while it is held, and empty before and after.
    Raises LearningError."""
    try:
        for number in range(MOST_AT_ONCE):
            place = home / FOLDER / str(number)
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = try_lock(place / "lock")
            if descriptor is not None:
                break
        else:
            raise LearningError("Too many windows plan at this moment: try again.")
    except OSError as error:
        raise LearningError(
            f"Nothing can be written in {home} ({error.strerror}): make room or make it writable."
        ) from error
    try:
        _remove(place / "run")
        yield place
    finally:
        _remove(place / "run")
        os.close(descriptor)


def sweep(home: Path) -> None:
    """Remove what dry runs left that were killed: it has words of chats in it."""
    with suppress(OSError):
        for place in (home / FOLDER).iterdir():
            # Held, it is somebody's who lives.
            if (place / "run").is_dir() and (descriptor := try_lock(place / "lock")) is not None:
                _remove(place / "run")
                os.close(descriptor)


def _remove(folder: Path) -> None:
    # In the program's own folder, under a lock that nobody holds: a dry run's, and dead.
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
