"""A document is read by a child process, which may take so much memory and time and no more."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, BinaryIO, cast

from openchat_local.app.documents.child import MEMORY, OUT_OF_MEMORY
from openchat_local.app.documents.document import LARGEST_TEXT, Document, Page, Unreadable
from openchat_local.app.documents.kinds import Kind
from openchat_local.app.documents.markup import DAMAGED
from openchat_local.models.system.child_process import own_process_group, python_module

SECONDS = 20.0
"""How long a document may take: a thousand pages of PDF take five."""
LOOK_SECONDS = 0.05
MOST_PAGES = 20_000
_LONGEST_LINE = 8 * LARGEST_TEXT  # bytes; JSON writes an emoji in twelve


class Cancelled(Exception):
    """Nobody wants the document any more."""


def extract(
    file: BinaryIO,
    kind: Kind,
    *,
    seconds: float = SECONDS,
    memory: int = MEMORY,
    wanted: Callable[[], bool] = lambda: True,
) -> Document:
    """The text of an open file, by a child process that is gone when this comes back.

    Where the time or the memory (bytes) does not suffice, or there is more text than any context
    holds, the pages that came are the document, and a note says so. Raises Unreadable where
    none came, Cancelled where `wanted` says no.
    """
    file.seek(0)
    process = subprocess.Popen(
        python_module("openchat_local.app.documents.child", kind),
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        **own_process_group(),
    )
    said = _Said()
    came: queue.Queue[bytes] = queue.Queue(maxsize=16)
    stdout = cast("IO[bytes]", process.stdout)
    threading.Thread(target=_listen, args=(stdout, came), daemon=True).start()
    try:
        for line in _lines(process, came, time.monotonic() + seconds, memory, wanted):
            said.take(line)
    except _Stopped as stop:
        said.stopped = str(stop)
    finally:
        process.kill()
        process.wait()
        while came.get():  # to the end, which lets the listener go
            pass
        stdout.close()
    return said.document()


class _Stopped(Exception):
    """Why reading went no further: goes on after "Reading was stopped, since"."""


class _Said:
    """What the child has said so far."""

    def __init__(self) -> None:
        self.stopped = ""
        self._about: dict[str, object] = {}
        self._pages: list[Page] = []
        self._refusal: Unreadable | None = None
        self._ended = False
        self._size = 0
        self._within = "after"

    def take(self, line: bytes) -> None:
        said = json.loads(line)
        if "reason" in said:
            self._refusal = Unreadable(str(said["reason"]), str(said["remedy"]))
        elif "form" in said:
            self._about = said
        elif "end" in said:
            self._ended = True
        else:
            text = str(said["text"])[: LARGEST_TEXT - self._size]
            self._pages.append(Page(str(said["label"]), text, bool(said["pictured"])))
            self._size += len(text)
            if self._size >= LARGEST_TEXT:
                self._within = "in"
                raise _Stopped(f"it has more than {LARGEST_TEXT:,} characters")
            if len(self._pages) >= MOST_PAGES:
                raise _Stopped(f"it has more than {MOST_PAGES:,} pages")

    def document(self) -> Document:
        """All that was said. Raises Unreadable."""
        if self._refusal is not None and not self._pages:
            raise self._refusal
        if not self._ended and not self.stopped:
            reason = None if self._refusal is None else self._refusal.reason
            self.stopped = f"it {reason}" if reason else "its reader gave up on it"
        if not self._pages:
            if not self._ended:
                remedy = "save it anew from a program that shows it, or attach its text"
                raise Unreadable(f"cannot be read, since {self.stopped}", remedy)
            raise DAMAGED
        unit, total = str(self._about["unit"]), int(str(self._about["total"]))
        notes: tuple[str, ...] = ()
        if self.stopped:
            which = f" {self._within} {unit} {len(self._pages):,} of {total:,}" if unit else ""
            notes = (f"Reading stopped{which}: {self.stopped}.",)
        return Document(str(self._about["form"]), unit, tuple(self._pages), total, notes)


def _lines(
    process: subprocess.Popen[bytes],
    came: queue.Queue[bytes],
    deadline: float,
    memory: int,
    wanted: Callable[[], bool],
) -> Iterator[bytes]:
    """The child's lines as they come. Raises _Stopped, Cancelled."""
    while True:
        if not wanted():
            raise Cancelled
        try:
            line = came.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            _look_at_memory(process.pid, memory)
        else:
            if not line:
                came.put(b"")  # the end stays the end
                if process.wait() == OUT_OF_MEMORY:
                    raise _Stopped("it takes too much memory")
                return
            if not line.endswith(b"\n"):  # cut by its own length, or by the child's end
                raise _Stopped("a page of it has no end")
            yield line
        if time.monotonic() > deadline:
            raise _Stopped("it takes too long")


def _listen(stdout: IO[bytes], came: queue.Queue[bytes]) -> None:
    with suppress(OSError, ValueError):  # closed at the other end, when nobody listens
        while line := stdout.readline(_LONGEST_LINE):
            came.put(line)
    came.put(b"")


def _look_at_memory(pid: int, memory: int) -> None:
    import psutil

    with suppress(psutil.Error):
        if psutil.Process(pid).memory_info().rss > memory:
            raise _Stopped("it takes too much memory")
