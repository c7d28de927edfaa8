"""A child process with an engine in it, and the questions that it is asked."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import subprocess
import tempfile
import threading
from typing import BinaryIO, cast

from openchat_local.models import errors
from openchat_local.models.engine import wire
from openchat_local.models.errors import DoesNotFit, EngineDied, EngineError
from openchat_local.models.system.child_process import (
    LOOKS_OF_THE_ENGINE,
    how_it_ended,
    own_process_group,
    python_module,
    sharing_cores,
)

DIED: wire.Frame = {"died": True}
DIED_LOADING = (
    "The engine ended while it loaded the model ({how}): if there was too little memory, try "
    "a smaller --context or model; else the file may be damaged, so fetch it again."
)
DIED_WORKING = (
    "The engine ended in mid-work ({how}): what it had written is kept; send the prompt again "
    "to restart it, with a smaller --context if memory is short."
)


class EngineChild:
    """One child process and the threads that listen to it.

    Spawned before anybody knows what to load: its imports then run beside the app's own.
    """

    def __init__(self) -> None:
        # Native code writes its last words to stderr; a file keeps them without a reader.
        self._stderr_before = 0
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._process = subprocess.Popen(
            python_module("openchat_local.models.engine.child"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=sharing_cores(LOOKS_OF_THE_ENGINE),
            **own_process_group(),
        )
        self._stdin = cast("BinaryIO", self._process.stdin)
        self._stdout = cast("BinaryIO", self._process.stdout)
        self._writer = wire.FrameWriter(self._stdin)
        self._ids = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[wire.Frame]] = {}
        self._lock = threading.Lock()
        self._dead = False
        self.pid = self._process.pid
        threading.Thread(target=self._listen, name="engine-listener", daemon=True).start()

    @property
    def alive(self) -> bool:
        return not self._dead and self._process.poll() is None

    def ask(self, frame: wire.Frame) -> tuple[int, queue.SimpleQueue[wire.Frame]]:
        """Send a request; its id, and the queue that its answers arrive in.

        When the child dies, the queue gets `{"died": True}` after all that came before.
        """
        answers: queue.SimpleQueue[wire.Frame] = queue.SimpleQueue()
        with self._lock:
            request = next(self._ids)
            if self._dead:
                answers.put(DIED)
            self._waiting[request] = answers
            self._stderr_before = os.fstat(self._stderr.fileno()).st_size
        self.tell(frame | {"id": request})
        return request, answers

    def tell(self, frame: wire.Frame) -> None:
        """Send a frame that has no answer. A dead child is noticed by the listener."""
        with contextlib.suppress(OSError, ValueError):
            self._writer.write(frame)

    def done(self, request: int) -> None:
        """Stop listening for answers to `request`."""
        with self._lock:
            self._waiting.pop(request, None)

    def close(self) -> None:
        """Ask the child to end, after it has written what it still wants to; returns at once."""
        self.tell({"do": "close"})
        with contextlib.suppress(OSError):
            self._stdin.close()

    def wait(self, seconds: float) -> None:
        """Wait until the process has ended, but no longer than that."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def last_words(self) -> str:
        """How the process ended, and what it wrote to stderr since the last request."""
        code = self._process.wait()
        with self._lock:  # all whose replies it was writing ask at once
            return how_it_ended(code, self._stderr, self._stderr_before)

    def _listen(self) -> None:
        while (frame := wire.read_frame(self._stdout)) is not None:
            with self._lock:
                answers = self._waiting.get(frame["id"])
            if answers is not None:
                answers.put(frame)
        self._process.wait()  # reaps it
        with self._lock:
            self._dead = True
            for answers in self._waiting.values():
                answers.put(DIED)


def checked(child: EngineChild, frame: wire.Frame, if_dead: str) -> wire.Frame:
    """`frame`, unless it carries an error or the child's death, which are raised."""
    if frame is DIED:
        raise EngineDied(if_dead.format(how=child.last_words()))
    if "error" in frame:
        if "tokens" in frame:
            raise DoesNotFit(frame["error"], frame["tokens"])
        kind = getattr(errors, frame["kind"], EngineError)
        raise kind(frame["error"])
    return frame
