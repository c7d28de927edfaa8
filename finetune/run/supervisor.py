"""A training run seen from the app: starts the child, listens, and starts it again.

Where memory runs out for good (Metal aborts the process), the run goes on from its last
checkpoint with batches of half the size; sums over a step's batches stay the same sums.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

from openchat_local.finetune.group import launched
from openchat_local.finetune.plan import plan_from_json
from openchat_local.finetune.run.directory import RunDirectory, RunError
from openchat_local.models import errors
from openchat_local.models.child_process import how_it_ended, own_process_group, python_module
from openchat_local.models.engine.wire import FrameWriter, read_frame
from openchat_local.models.errors import OpenChatError

RESTARTS = 3

Event = dict[str, Any]


class Training:
    """One run as a child process."""

    def __init__(self, run: RunDirectory, *, dry: bool = False) -> None:
        self._run = run
        self._dry = dry
        self._stopping = False
        self._writer: FrameWriter | None = None
        self.pid: int | None = None

    def events(self) -> Iterator[Event]:
        """What the run tells, `{"type": …}` each; the last is `Done`.

        Raises OpenChatError, with the sentence that the child gave or one on its death.
        """
        for attempt in range(RESTARTS + 1):
            done = False
            with tempfile.TemporaryFile() as stderr:
                process = self._start(stderr)
                for event in self._listen(process):
                    if event["type"] == "Failed":
                        raise _error(event)
                    done = event["type"] == "Done"
                    yield event
                code = process.wait()
                if done:
                    return
                how = how_it_ended(code, stderr)
            alone = launched()[1] == 1  # the others wait for the one that died, not for a new one
            if attempt == RESTARTS or self._stopping or not alone or not self._smaller():
                raise RunError(
                    f"The training process ended ({how}): its last checkpoint is kept; go on "
                    f"with openchat-local finetune --resume {self._run.path}."
                )
            yield {
                "type": "NoticeEvent",
                "step": 0,
                "text": f"The training process ended ({how}): going on from the last checkpoint "
                "with batches of half the size.",
            }

    def stop(self) -> None:
        """Ask the child to save and end after the step it is at."""
        self._stopping = True
        if self._writer is not None:
            with contextlib.suppress(OSError, ValueError):
                self._writer.write({"do": "stop"})

    def _start(self, stderr: BinaryIO) -> subprocess.Popen[bytes]:
        arguments = [str(self._run.path), *(["dry"] if self._dry else [])]
        process = subprocess.Popen(
            python_module("openchat_local.finetune.run.worker", *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            **own_process_group(),
        )
        self._writer = FrameWriter(cast("BinaryIO", process.stdin))
        self.pid = process.pid
        if self._stopping:
            self.stop()
        return process

    def _listen(self, process: subprocess.Popen[bytes]) -> Iterator[Event]:
        stdout = cast("BinaryIO", process.stdout)
        while (frame := read_frame(stdout)) is not None:
            yield frame

    def _smaller(self) -> bool:
        """Halve the batches of the run's plan; False if there is nothing to go on from."""
        settings = self._run.settings()
        plan = settings.get("plan")
        if plan is None or self._run.latest() is None:
            return False
        smaller = plan_from_json(plan).halved()
        if smaller is None:
            return False
        self._run.write_settings(settings | {"plan": asdict(smaller)})
        return True


def _error(event: Event) -> OpenChatError:
    kind = getattr(errors, event["kind"], RunError)
    error: OpenChatError = kind(event["text"])
    return error


def runs_folder(home: Path) -> Path:
    """Where runs are kept unless a person says otherwise."""
    return home / "runs"
