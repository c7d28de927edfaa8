"""The training loop: set up, fit, validate, save.

Everything that a kill could lose is in the last checkpoint, and everything since then is
done again with the same data, rates and random draws, so the losses come out the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Protocol

from openchat_local.finetune.backends.group import SINGLE, Group
from openchat_local.finetune.backends.trainer import ClassSums, StepResult, Trainer, added
from openchat_local.finetune.data.batches import Batch
from openchat_local.finetune.run.checkpoints import Checkpoint, Progress
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.finetune.run.events import (
    Ending,
    LoopEvent,
    NoticeEvent,
    Outcome,
    StepEvent,
    ValidationEvent,
)
from openchat_local.finetune.run.schedule import Schedule
from openchat_local.finetune.run.wire import metrics_record
from openchat_local.models.errors import OpenChatError


class OutOfMemory(OpenChatError):
    """Not even the smallest batch fits into the device's memory."""


class TrainingData(Protocol):
    """What the loop asks of the data; the same for the same seed, whatever the backend."""

    def steps(self, epoch: int) -> Sequence[Sequence[Callable[[], Batch]]]:
        """The optimizer steps of an epoch, each as its micro-batches, built when called."""

    def validation(self) -> Sequence[Callable[[], Batch]]:
        """The batches of the validation set; empty without one."""


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How long and how often. Counts are optimizer steps; `patience` is the number of
    validations without a better loss after which the run stops, 0 for never."""

    schedule: Schedule
    validate_every: int
    checkpoint_every: int
    patience: int = 0


class Loop:
    """One run, from wherever its directory says that it is."""

    def __init__(
        self,
        run: RunDirectory,
        trainer: Trainer,
        data: TrainingData,
        settings: LoopSettings,
        tell: Callable[[LoopEvent], None],
        wants_to_stop: Callable[[], bool] = lambda: False,
        group: Group = SINGLE,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._run = run
        self._trainer = trainer
        self._data = data
        self._settings = settings
        self._tell = tell
        self._wants_to_stop = wants_to_stop
        self._group = group
        self._progress = Progress()
        self._halvings = 0
        self._validation_halvings = 0

    def fit(self) -> Outcome:
        """Train to the end. Raises OutOfMemory or OSError (the disk is full)."""
        self._resume()
        ending = self._steps()
        if ending != "not finite":
            self._save()
        self._restore_best()
        return Outcome(ending, self._progress)

    def _resume(self) -> None:
        checkpoint = self._shared_checkpoint()
        if checkpoint is None:
            self._run.cut_metrics(0)
            self._validate()  # what there was before: best, if nothing better comes
            self._save()  # what the first non-finite step would go back to
            return
        self._trainer.load_state(checkpoint.state)
        self._progress = checkpoint.progress
        self._run.cut_metrics(checkpoint.progress.metrics_bytes)

    def _steps(self) -> Ending:
        settings = self._settings
        while self._progress.step < settings.schedule.steps:
            steps = self._data.steps(self._progress.epoch)
            while self._progress.position < len(steps):
                if not self._step(steps[self._progress.position]):
                    if self._progress.rollbacks >= 2:
                        return "not finite"
                    break  # the epoch may be another one now
                if self._progress.step % settings.validate_every == 0:
                    self._validate()
                if settings.patience and self._progress.stale >= settings.patience:
                    return "stopped early"
                if self._progress.step % settings.checkpoint_every == 0:
                    self._save()
                if not self._group.all_well(not self._wants_to_stop()):
                    return self._finish("interrupted")
                if self._progress.step >= settings.schedule.steps:
                    return self._finish("finished")
            else:
                self._progress = replace(self._progress, epoch=self._progress.epoch + 1, position=0)
        return "finished"

    def _finish(self, ending: Ending) -> Ending:
        """Measure what the last steps brought: only the best that was measured is kept."""
        if self._progress.step % self._settings.validate_every:
            self._validate()
        return ending

    def _step(self, micro_batches: Sequence[Callable[[], Batch]]) -> bool:
        """Make one optimizer step; False when it was not finite and has been taken back."""
        started = self._clock()
        progress = self._progress
        rate = self._settings.schedule.rate(progress.step) * progress.rate_factor
        batches = [build() for build in micro_batches]
        result = self._within_memory(batches, rate)
        if not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm)):
            self._roll_back()
            return False
        seconds = self._clock() - started
        self._progress = replace(
            progress,
            step=progress.step + 1,
            position=progress.position + 1,
            seconds=progress.seconds + seconds,
        )
        event = StepEvent(
            step=self._progress.step,
            epoch=progress.epoch,
            learning_rate=rate,
            result=result,
            seconds=seconds,
            tokens=sum(int((batch.segments > 0).sum()) for batch in batches),
            supervised=sum(batch.supervised for batch in batches),
            peak_memory=self._trainer.peak_memory(),
        )
        self._note(event)
        return True

    def _within_memory(self, batches: list[Batch], rate: float) -> StepResult:
        """The step, in smaller pieces if need be: sums over pieces are the same sums."""
        for _ in range(self._halvings):
            batches = _halved(batches)
        while len(batches) < self._group.size and any(len(b.tokens) > 1 for b in batches):
            batches = _halved(batches)
        while True:
            try:
                return self._trainer.step(self._group.share(batches), rate)
            except MemoryError:
                batches = _smaller(batches, "row")
                self._halvings += 1
                self._notice("Out of memory: the batch is halved and the step made again.")

    def _validate(self) -> None:
        batches = self._data.validation()
        if not batches:
            return
        totals: dict[int, ClassSums] = {}
        for build in self._group.share(batches):
            for piece in self._evaluated(build()):
                totals = added(totals, piece)
        totals = self._group.sum_classes(totals)
        weight = sum(sums.weight for sums in totals.values())
        loss = sum(sums.weighted_loss for sums in totals.values()) / weight
        progress = self._progress
        best = progress.best_loss is None or loss < progress.best_loss
        self._progress = replace(
            progress,
            best_loss=loss if best else progress.best_loss,
            best_step=progress.step if best else progress.best_step,
            stale=0 if best else progress.stale + 1,
        )
        event = ValidationEvent(progress.step, loss, totals, best)
        self._record(event)
        if best:
            self._run.checkpoints.save(self._checkpoint(), "best")
        self._tell(event)

    def _evaluated(self, batch: Batch) -> list[Mapping[int, ClassSums]]:
        """The sums of a batch, or of its pieces where memory is too short for all of it."""
        pieces = [batch]
        for _ in range(self._validation_halvings):
            pieces = _halved(pieces)
        while True:
            try:
                return [self._trainer.evaluate(piece) for piece in pieces]
            except MemoryError:
                pieces = _smaller(pieces, "held-out conversation")
                self._validation_halvings += 1
                self._notice("Out of memory in validation: it continues in halves of its batches.")

    def _roll_back(self) -> None:
        """Back to the last checkpoint at half the rate, which a resumed run knows of too."""
        step = self._progress.step + 1
        checkpoint = self._run.checkpoints.latest()
        assert checkpoint is not None, "a run saves before its first step"
        rollbacks = self._progress.rollbacks + 1
        self._trainer.load_state(checkpoint.state)
        self._run.cut_metrics(checkpoint.progress.metrics_bytes)
        self._progress = replace(
            checkpoint.progress,
            rollbacks=rollbacks,
            rate_factor=checkpoint.progress.rate_factor / 2,
        )
        what = (
            f"going back to step {checkpoint.progress.step} at half the learning rate."
            if rollbacks < 2
            else "for the second time: stopping with the best adapter so far."
        )
        self._notice(f"The loss of step {step} was not finite; {what}")
        self._save()

    def _shared_checkpoint(self) -> Checkpoint | None:
        """The last checkpoint; every process begins with the first one's."""
        checkpoint = self._run.checkpoints.latest()
        if self._group.size == 1:
            return checkpoint
        about = None if checkpoint is None else asdict(checkpoint.progress)
        about = self._group.from_first(about)
        if about is None:
            return None
        state = {
            name: self._group.array_from_first(
                checkpoint.state[name] if checkpoint is not None else empty
            )
            for name, empty in self._trainer.state().items()
        }
        return Checkpoint(Progress(**about), state)

    def _restore_best(self) -> None:
        best = self._run.checkpoints.load("best")
        if best is not None:
            self._trainer.load_state(best.state)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self._progress, self._trainer.state())

    def _save(self) -> None:
        self._run.checkpoints.save(self._checkpoint())

    def _notice(self, text: str) -> None:
        self._note(NoticeEvent(self._progress.step, text))

    def _note(self, event: LoopEvent) -> None:
        self._record(event)
        self._tell(event)

    def _record(self, event: LoopEvent) -> None:
        length = self._run.add_metrics(metrics_record(event))
        self._progress = replace(self._progress, metrics_bytes=length)


def _smaller(batches: list[Batch], what: str) -> list[Batch]:
    """The batches in halves. Raises OutOfMemory where each is one `what` already."""
    halved = _halved(batches)
    if len(halved) == len(batches):
        raise OutOfMemory(
            f"Not even one {what} fits into memory: train with a smaller --max-length, or on a "
            "smaller model."
        ) from None
    return halved


def _halved(batches: list[Batch]) -> list[Batch]:
    return [half for batch in batches for half in _halves(batch)]


def _halves(batch: Batch) -> list[Batch]:
    """The batch as two of half its rows, or itself when it has only one."""
    rows = len(batch.tokens)
    if rows == 1:
        return [batch]
    arrays = [getattr(batch, field.name) for field in fields(Batch)]
    cut = rows // 2
    return [Batch(*(array[:cut] for array in arrays)), Batch(*(array[cut:] for array in arrays))]
