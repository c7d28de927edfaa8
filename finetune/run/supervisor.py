"""A training run seen from the app: starts the child, listens, halts it, and starts it again.

Where memory runs out for good (Metal aborts the process), the run resumes from its last
checkpoint with batches of half the size; sums over a step's batches stay the same sums.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, cast

from openchat_local.finetune.backends.group import launched
from openchat_local.finetune.run.directory import TRYING, RunDirectory, RunError
from openchat_local.finetune.run.events import (
    Done,
    Failed,
    Halted,
    NoticeEvent,
    RunEvent,
    Standstill,
    Unwritten,
    WentOn,
    WorkerEvent,
)
from openchat_local.finetune.run.plan import plan_from_json
from openchat_local.finetune.run.shortage import NO_MEMORY, died_of_memory, kernel_kills
from openchat_local.finetune.run.standstill import Brake, handed_over, own_group, shared_total
from openchat_local.finetune.run.wire import unpack_event
from openchat_local.models import errors
from openchat_local.models.engine.wire import FrameWriter, read_frame
from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.child_process import (
    LOOKS_OF_TRAINING,
    how_it_ended,
    python_module,
    sharing_cores,
)
from openchat_local.models.system.shell import command

RESTARTS = 3
WORKER = "openchat_local.finetune.run.worker"
LOOK_SECONDS = 0.05  # how often it is asked whether the child should stand still
_LAST_WORDS = 4096  # bytes

Told = WorkerEvent | Halted | WentOn


class Training:
    """One run as a child process."""

    def __init__(
        self,
        run: RunDirectory,
        *,
        dry: bool = False,
        standing: Callable[[], Standstill | None] | None = None,
    ) -> None:
        """`standing` is asked many times a second, in another thread, why the child should
        stand still now, None if it should not."""
        self._run = run
        self._dry = dry
        self._standing = standing
        self._command = python_module(WORKER, str(run.path), *(["dry"] if dry else []))
        self._environment = sharing_cores(LOOKS_OF_TRAINING)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = self._ended = False
        self._writer: FrameWriter | None = None
        self.pid: int | None = None

    def events(self) -> Generator[RunEvent, None, None]:
        """What the run tells; the last is `Done`.

        Raises OpenChatError, with the sentence that the child gave or one on its death.
        However this ends, closed by whoever listens too, the child is gone then.
        """
        for attempt in range(RESTARTS + 1):
            before = kernel_kills()
            with tempfile.TemporaryFile() as stderr:
                with self._child(stderr) as process:
                    for event in self._told(process):
                        match event:
                            case Failed():
                                raise _error(event)
                            case Unwritten(what):
                                raise self._unwritten(what)
                        yield event
                        if isinstance(event, Done):
                            return
                    code = process.wait()
                short = self._died_of_memory(code, stderr, before)
                how = "out of memory" if code == NO_MEMORY else how_it_ended(code, stderr)
            alone = launched()[1] == 1  # the others wait for the one that died, not for a new one
            last = attempt == RESTARTS or self._stopping or not alone
            if not short or last or not self._smaller():
                raise RunError(f"The training process ended ({how}): {self._what_is_left()}")
            where = "from the last checkpoint" if self._run.checkpoints.latest() else "anew"
            yield NoticeEvent(
                0,
                f"The training process ended for lack of memory ({how}): going on {where} "
                "with batches of half the size.",
            )

    def stop(self) -> None:
        """Ask the child to save and end after the step it is at."""
        self._stopping = True
        if self._writer is not None:
            with contextlib.suppress(OSError, ValueError):
                self._writer.write({"do": "stop"})

    def end(self) -> None:
        """End the child at once, from whichever thread: whoever listens then hears of its death."""
        self._stopping = self._ended = True
        if self._process is not None:
            self._process.kill()

    @contextlib.contextmanager
    def _child(self, stderr: BinaryIO) -> Iterator[subprocess.Popen[bytes]]:
        """The training process, which is killed where it outlives the block."""
        self._stood = total = shared_total()
        arguments, options = ([], {}) if self._standing is None else handed_over(total)
        process = subprocess.Popen(
            [*self._command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=self._environment,
            **own_group(),
            **options,
        )
        ended = False
        try:
            self._writer = FrameWriter(cast("BinaryIO", process.stdin))
            self.pid, self._process = process.pid, process
            if self._ended:
                process.kill()
            if self._stopping:
                self.stop()
            yield process
            ended = True
        finally:
            if not ended:
                process.kill()  # harmless to one that is gone: it is not waited for before
            process.wait()
            for pipe in (process.stdin, process.stdout, total):
                with contextlib.suppress(OSError):  # nobody reads it any more
                    cast("BinaryIO", pipe).close()

    def _told(self, process: subprocess.Popen[bytes]) -> Iterator[Told]:
        """What the child tells and, where it stands still now and then, that it does."""
        if self._standing is None or launched()[1] > 1:  # several would wait for each other
            yield from self._listen(process)
            return
        told: queue.SimpleQueue[Told | BaseException | None] = queue.SimpleQueue()
        ended = threading.Event()

        def listen() -> None:
            try:
                for event in self._listen(process):
                    told.put(event)
                told.put(None)
            except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for it
                told.put(error)

        brake = Brake(process, self._stood, cast("FrameWriter", self._writer))
        threads = [
            threading.Thread(target=listen, daemon=True),
            threading.Thread(target=self._watch, args=(brake, told, ended), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            while (event := told.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            ended.set()
            threads[1].join()  # before the process is waited for, and its id another's
            brake.go_on()  # to its end

    def _watch(
        self,
        brake: Brake,
        told: queue.SimpleQueue[Told | BaseException | None],
        ended: threading.Event,
    ) -> None:
        """Halt the child while there is a reason, until it has `ended`."""
        assert self._standing is not None
        why: Standstill | None = None
        while not ended.wait(LOOK_SECONDS):
            before, why = why, self._standing()
            if why is None and brake.halted:
                told.put(WentOn(brake.go_on()))
            elif why is not None and why != before:
                brake.halt()
                told.put(Halted(why))

    def _listen(self, process: subprocess.Popen[bytes]) -> Iterator[WorkerEvent]:
        stdout = cast("BinaryIO", process.stdout)
        while (frame := read_frame(stdout)) is not None:
            yield unpack_event(frame)

    def _died_of_memory(self, code: int, stderr: BinaryIO, kills_before: int | None) -> bool:
        kills = kernel_kills()
        killed = None if kills is None or kills_before is None else kills > kills_before
        backend = self._run.settings().get("backend") or {}
        stderr.seek(max(0, os.fstat(stderr.fileno()).st_size - _LAST_WORDS))
        words = stderr.read().decode("utf-8", "replace")
        mlx_cpu = backend.get("backend") == "mlx" and backend.get("blas") != "metal"
        return died_of_memory(code, words, kernel_killed=killed, mlx_cpu=mlx_cpu)

    def _smaller(self) -> bool:
        """Halve the batches of the run's plan, or of the one that was being tried; False if
        they cannot be smaller, or there is none to begin again with."""
        settings = self._run.settings()
        key = "plan" if settings.get("plan") else TRYING
        if not settings.get(key):
            return False
        smaller = plan_from_json(settings[key]).halved()
        if smaller is None:
            return False
        self._run.write_settings(settings | {key: asdict(smaller)})
        return True

    def _unwritten(self, what: str) -> RunError:
        return RunError(f"The run could not be written ({what}): make room; {self._what_is_left()}")

    def _what_is_left(self) -> str:
        """What to do after a run that has failed."""
        steps = 0 if self._dry else self._run.steps_done
        if not steps:
            return "nothing was learned yet, so begin again."
        return f"step {steps:,} is kept; go on with: {resume_command(self._run.path)}"


def resume_command(path: Path) -> str:
    """What a person types to resume the run in `path`."""
    return command("finetune", "--resume", path)


def _error(failed: Failed) -> OpenChatError:
    kind = getattr(errors, failed.kind, RunError)
    error: OpenChatError = kind(failed.text)
    return error


def runs_folder(home: Path) -> Path:
    """Where runs are kept unless a person says otherwise."""
    return home / "runs"
