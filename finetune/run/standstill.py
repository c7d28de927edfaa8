"""A training process that stands still for a while, and a clock that does not count it.

The parent stops the child's process group and starts it again. Beforehand it writes how long
the child has stood still in all into a file that both have open: whenever the child
looks at its clock after that, the time is taken off. Monotonic clocks are the same in
all processes of a machine.

If the parent dies meanwhile, the child's group is an orphan with a stopped process in it, to
which POSIX sends SIGHUP and SIGCONT: it ends, or goes on and finds nobody at the other end of
its pipe. For that the child has to be in a group of its own in its parent's session.

Where there are no such signals (Windows) the child is asked by a frame, and stands still where
it tells of a step.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

from openchat_local.models.engine.wire import FrameWriter

ARGUMENT = "standstill="  # and the descriptor of the file, among the child's arguments
HALT, GO_ON = {"do": "halt"}, {"do": "go on"}
_SECONDS = struct.Struct("<d")

Clock = Callable[[], float]


class Brake:
    """Halts a training process, and lets it go on."""

    def __init__(self, process: subprocess.Popen[bytes], total: BinaryIO, ask: FrameWriter) -> None:
        """`total` is the file from `shared_total`, `ask` writes to the child."""
        self._process = process
        self._total = total
        self._ask = ask
        self._sum = 0.0
        self._since: float | None = None

    @property
    def halted(self) -> bool:
        return self._since is not None

    def halt(self) -> None:
        """The process stands still from now on; on Windows after the step it is at."""
        if self._since is None:
            self._since = time.monotonic()
            self._send("SIGSTOP", HALT)

    def go_on(self) -> float:
        """It goes on; the seconds that it stood still."""
        if self._since is None:
            return 0.0
        seconds = time.monotonic() - self._since
        self._sum += seconds
        _write_total(self._total, self._sum)
        self._since = None
        self._send("SIGCONT", GO_ON)
        return seconds

    def _send(self, name: str, frame: dict[str, Any]) -> None:
        # The process may have ended; its id is its own until whoever began it has waited for it.
        if sys.platform == "win32":
            with suppress(OSError, ValueError):
                self._ask.write(frame)
        else:
            import signal

            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, getattr(signal, name))


def own_group() -> dict[str, Any]:
    """For `Popen`: a process group that can be halted, and that the terminal's Ctrl-C spares."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"process_group": 0}


def shared_total() -> BinaryIO:
    """An open file, of no name, with the seconds that a child has stood still."""
    file: BinaryIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller closes it
    _write_total(file, 0.0)
    return file


def handed_over(total: BinaryIO) -> tuple[list[str], dict[str, Any]]:
    """The argument and the options for `Popen` that give the file to a child."""
    if sys.platform == "win32":
        return [], {}
    return [f"{ARGUMENT}{total.fileno()}"], {"pass_fds": (total.fileno(),)}


def clock_of(arguments: list[str]) -> Clock:
    """In the child: seconds as of `time.perf_counter`, without those in which it stood still."""
    given = [one.removeprefix(ARGUMENT) for one in arguments if one.startswith(ARGUMENT)]
    if not given:
        return time.perf_counter
    descriptor = int(given[0])

    def clock() -> float:
        while True:
            before = _read_total(descriptor)
            now = time.perf_counter()
            if _read_total(descriptor) == before:  # else it stood still in between
                return now - before

    return clock


class Waiting:
    """In the child, where the parent cannot stop it: waits when it is asked to."""

    def __init__(self) -> None:
        self._goes = threading.Event()
        self._goes.set()
        self._seconds = 0.0

    def heed(self, frame: dict[str, Any]) -> None:
        """A frame of the parent's."""
        if frame == HALT:
            self._goes.clear()
        else:  # to stop is to go on until the end of the step
            self._goes.set()

    def wait(self) -> None:
        """Return when the training may go on."""
        if not self._goes.is_set():
            began = time.monotonic()
            self._goes.wait()
            self._seconds += time.monotonic() - began

    def clock(self, other: Clock) -> Clock:
        """The `other` clock without the time that was waited."""
        return lambda: other() - self._seconds


def _write_total(file: BinaryIO, seconds: float) -> None:
    file.seek(0)
    file.write(_SECONDS.pack(seconds))


def _read_total(descriptor: int) -> float:
    (seconds,) = _SECONDS.unpack(os.pread(descriptor, _SECONDS.size, 0))
    return float(seconds)
