"""Runs of an ablation in child processes, some side by side, seen from the app."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from subprocess import Popen
from typing import BinaryIO, cast

from openchat_local.finetune.evaluation.ablation.folder import AblationFolder
from openchat_local.finetune.evaluation.ablation.recipes import AblationError
from openchat_local.finetune.evaluation.ablation.worker import BEGAN, ENDED, MEASURED, MODULE
from openchat_local.finetune.run.events import NoticeEvent, Phase, Ready, StepEvent, WorkerEvent
from openchat_local.finetune.run.supervisor import Training
from openchat_local.finetune.run.wire import unpack_event
from openchat_local.models.engine.wire import read_frame
from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.child_process import python_module

_TRAINING, _MEASURING = 0.9, 0.09  # of a run's time, about


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a run is: a share `done` of it, `step` of `steps` made, both 0 where it is not
    trained now; `note` is a sentence for a person."""

    name: str
    done: float
    step: int = 0
    steps: int = 0
    note: str = ""


class Lane(Training):
    """A child that brings several runs to their ends, one after the other."""

    def __init__(
        self, folder: AblationFolder, evaluator: str, names: Sequence[str], *, lanes: int = 1
    ) -> None:
        super().__init__(folder.run(names[0]))
        self._folder = folder
        self._name = names[0]
        self._command = python_module(MODULE, str(folder.path), evaluator, *names)
        if lanes > 1 and "OMP_NUM_THREADS" not in self._environment:
            threads = max(1, (os.cpu_count() or 1) // lanes)
            self._environment["OMP_NUM_THREADS"] = str(threads)

    def standings(self) -> Generator[Standing, None, None]:
        """How far the runs are, as they go on. Raises AblationError with what ended them."""
        steps = 0
        try:
            with closing(self.events()) as events:
                for event in events:
                    match event:
                        case Ready():
                            steps = event.plan.steps
                            yield self._trained(event.step, steps)
                        case StepEvent():
                            yield self._trained(event.step, steps)
                        case NoticeEvent():
                            yield Standing(self._name, 0.0, note=f"{self._name}: {event.text}")
                        case Phase(name, share) if name in (BEGAN, MEASURED, ENDED):
                            yield Standing(self._name, self._share(name, share or 0.0))
        except OpenChatError as error:
            raise AblationError(f"{self._name}: {error}") from error

    def _trained(self, step: int, steps: int) -> Standing:
        return Standing(self._name, _TRAINING * step / max(1, steps), step, steps)

    def _share(self, kind: str, share: float) -> float:
        return {BEGAN: 0.0, ENDED: 1.0}.get(kind, _TRAINING + _MEASURING * share)

    def _listen(self, process: Popen[bytes]) -> Iterator[WorkerEvent]:
        stdout = cast("BinaryIO", process.stdout)
        while (frame := read_frame(stdout)) is not None:
            if frame["type"] not in (BEGAN, MEASURED, ENDED):
                yield unpack_event(frame)
                continue
            self._name = frame["name"]
            self._run = self._folder.run(self._name)  # whose batches are halved if memory is short
            yield Phase(frame["type"], frame["share"])

    def _died_of_memory(self, code: int, stderr: BinaryIO, kills_before: int | None) -> bool:
        if not self._run.settings_path.exists():
            return False  # the base model, whose measuring has no batches to halve
        return super()._died_of_memory(code, stderr, kills_before)

    def _what_is_left(self) -> str:
        return "what was done is kept, and the same command goes on from there."


class Lanes:
    """Children side by side that bring the runs of an ablation to their ends."""

    def __init__(
        self, folder: AblationFolder, evaluator: str, names: Sequence[str], *, parallel: int = 1
    ) -> None:
        count = min(parallel, len(names))
        self._lanes = [
            Lane(folder, evaluator, names[number::count], lanes=count) for number in range(count)
        ]
        self._told: queue.SimpleQueue[Standing | BaseException | None] = queue.SimpleQueue()

    def standings(self) -> Generator[Standing, None, None]:
        """Train and measure; how far the runs are.

        Raises AblationError as soon as one of them cannot go on. However this ends, closed by
        whoever listens too, the children are gone then.
        """
        threads = [
            threading.Thread(target=self._listen, args=(lane,), daemon=True) for lane in self._lanes
        ]
        for thread in threads:
            thread.start()
        left = len(threads)
        try:
            while left:
                found = self._told.get()
                if isinstance(found, BaseException):
                    raise found
                if found is None:
                    left -= 1
                else:
                    yield found
        finally:
            for lane in self._lanes:
                lane.end()
            for thread in threads:
                thread.join()

    def stop(self) -> None:
        """Ask every child to keep what it has after the step that it is at, and to end."""
        for lane in self._lanes:
            lane.stop()

    def _listen(self, lane: Lane) -> None:
        try:
            for standing in lane.standings():
                self._told.put(standing)
            self._told.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for it
            self._told.put(error)
