"""One file of the hub into a `.part` file that outlives whatever kills the download.

huggingface_hub's own `hf_hub_download` writes to a temporary file of its process and
deletes it on failure, so that a kill costs all that came. Its session brings the bytes here
as well, from the one on that is missing; the part is named after the content's hash.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from openchat_local.models.hub.client import Hub, HubFile, Listing
from openchat_local.models.hub.faults import HubError, Trouble, from_disk, stopped

_CHUNK = 256 * 1024
_MARK_SECONDS = 0.1
_SPEED_SECONDS = 10.0
_SYNC_BYTES = 256 * 1024**2  # a power cut costs no more than that


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a download stands: `done` of `total` bytes, of which `fetched` came over the
    network since it began; bytes a second over the last ten; seconds left, None while
    unknown; `note` says what it waits for, if it does."""

    done: int
    total: int
    fetched: int = 0
    speed: float = 0.0
    seconds_left: float | None = None
    note: str = ""


Tell = Callable[[Progress], None]


def download(hub: Hub, listing: Listing, file: HubFile, part: Path, tell: Tell) -> None:
    """Complete `part`, whose content is then what the hub says it is.

    Raises HubError or PullCancelled; the part is kept unless its content was wrong.
    """
    resumed = _attempt(hub, listing, file, part, tell)
    if resumed is None:
        return
    part.unlink(missing_ok=True)
    # What lay here from before may have been at fault: a disk, a power cut. Once.
    if resumed and _attempt(hub, listing, file, part, tell) is None:
        return
    part.unlink(missing_ok=True)
    raise HubError(
        f"What {hub.endpoint} sent as {file.name} is not what it announced (another SHA-256): "
        "nothing was kept; try again, and without the mirror or proxy if there is one."
    )


def _attempt(hub: Hub, listing: Listing, file: HubFile, part: Path, tell: Tell) -> int | None:
    """None when the part is complete and right; else how many of its bytes were old."""
    with _Part(part, file) as target:
        meter = _Meter(tell, file.bytes)
        target.read_what_is_there(lambda done: _check_stop(hub, file, done, meter))
        resumed = target.size
        failures = 0
        while target.size < file.bytes:
            before = target.size
            try:
                _fetch(hub, listing, file, target, meter)
                if target.size < file.bytes:
                    raise Trouble(f"the connection ended early ({hub.endpoint})")
            except Trouble as trouble:
                failures = 1 if target.size > before else failures + 1
                target.sync()
                hub.pause(
                    failures,
                    trouble,
                    file.name,
                    lambda note: meter.show(target.size, note=note),
                    target.size,
                    file.bytes,
                )
        target.sync()
        return None if target.digest.hexdigest() == file.sha256 else resumed


def _fetch(hub: Hub, listing: Listing, file: HubFile, target: _Part, meter: _Meter) -> None:
    start = target.size
    with hub.stream(listing.repository, listing.revision, file.name, start) as response:
        if start and response.status_code != 206:
            target.start_over()  # a server or proxy that knows no ranges
        elif start and not _goes_on(response, start, file.bytes):
            raise HubError(
                f"{hub.endpoint} answers a request for the rest of {file.name} with another part "
                f"({response.headers.get('Content-Range')}): use another mirror."
            )
        for chunk in response.iter_raw():
            if target.size + len(chunk) > file.bytes:
                target.start_over()
                raise HubError(
                    f"{hub.endpoint} sends more of {file.name} than the {file.bytes:,} bytes that "
                    "it announced: nothing was kept; use another mirror."
                )
            target.write(chunk)
            meter.fetched += len(chunk)
            _check_stop(hub, file, target.size, meter)


def _check_stop(hub: Hub, file: HubFile, done: int, meter: _Meter) -> None:
    meter.show(done)
    if hub.stop.is_set():
        raise stopped(file.name, done, file.bytes)


def _goes_on(response: Any, start: int, total: int) -> bool:
    stated = response.headers.get("Content-Range", "")
    return stated in (f"bytes {start}-{total - 1}/{total}", f"bytes {start}-{total - 1}/*")


class _Part:
    """The file on disk and the hash of its content, always of the same bytes."""

    def __init__(self, path: Path, file: HubFile) -> None:
        self.path = path
        self._what = file.name
        self._total = file.bytes
        self._unsynced = 0
        self._file: BinaryIO
        self.size = 0
        self.digest = hashlib.sha256()

    def __enter__(self) -> _Part:
        with self._disk():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            descriptor = os.open(self.path, flags, 0o600)
            self._file = open(descriptor, "r+b", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read_what_is_there(self, on_progress: Callable[[int], None]) -> None:
        """Hash what an earlier run has left."""
        with self._disk():
            if os.fstat(self._file.fileno()).st_size > self._total:
                self._file.truncate(0)
            while chunk := self._file.read(_CHUNK * 4):
                self.digest.update(chunk)
                self.size += len(chunk)
                on_progress(self.size)

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        with self._disk():
            while view:
                written = self._file.write(view)
                self.digest.update(view[:written])
                self.size += written
                self._unsynced += written
                view = view[written:]
            if self._unsynced >= _SYNC_BYTES:
                self.sync()

    def sync(self) -> None:
        with self._disk():
            os.fsync(self._file.fileno())
        self._unsynced = 0

    def start_over(self) -> None:
        with self._disk():
            self._file.seek(0)
            self._file.truncate(0)
        self.size, self.digest = 0, hashlib.sha256()

    def _disk(self) -> _DiskFaults:
        return _DiskFaults(self)

    def fault(self, error: OSError) -> HubError:
        return from_disk(error, self._what, self.path.parent.parent, self.size, self._total)


class _DiskFaults:
    """Turns an OSError inside into the sentence for it."""

    def __init__(self, part: _Part) -> None:
        self._part = part

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError):
            raise self._part.fault(error) from error


class _Meter:
    """Tells with every chunk how far it is and how fast it goes: whoever shows it knows best
    how often, and the last one before a stall is the one that counts."""

    def __init__(self, tell: Tell, total: int) -> None:
        self._tell = tell
        self._total = total
        self._marks: deque[tuple[float, int]] = deque()
        self.fetched = 0

    def show(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        if not self._marks or now - self._marks[-1][0] >= _MARK_SECONDS:
            self._marks.append((now, self.fetched))
        while now - self._marks[0][0] > _SPEED_SECONDS:
            self._marks.popleft()
        seconds = now - self._marks[0][0]
        speed = (self.fetched - self._marks[0][1]) / seconds if seconds > 0 else 0.0
        left = (self._total - done) / speed if speed > 0 else None
        self._tell(Progress(done, self._total, self.fetched, speed, left, note))
