"""The runs in the background of a home, as files: light, and readable by every window.

<home>/training/lock         held by the process that has a run at work, and dropped with it
<home>/training/at-work      the id of that run
<home>/training/ID.json      a run: its name, where it is, and its last word

An entry goes when somebody has seen the run's end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openchat_local.models.system.atomic import replacing
from openchat_local.models.system.file_lock import looked_at, try_lock

FOLDER = "training"
# On a full disk there would be no room for what went wrong: it is taken at the beginning.
ROOM = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A run: `place` is its folder, relative to a home that it is in. `begun` is in seconds
    since 1970. At its end there is `problem`, or `sentence` on what came of it."""

    id: str
    name: str
    place: str
    begun: float
    sentence: str | None = None
    problem: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it has had its last word."""
        return self.sentence is not None or self.problem is not None


class Registry:
    """Those of one home, which need not exist."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._folder = home / FOLDER

    def entries(self) -> list[Entry]:
        """All that nobody has seen the end of, the newest first."""
        if not self._folder.is_dir():
            return []
        found = (self.entry(path.stem) for path in self._folder.glob("*.json"))
        return sorted((one for one in found if one), key=lambda one: (-one.begun, one.id))

    def entry(self, id: str) -> Entry | None:
        """That of the run with this id; None where there is none."""
        try:
            fields: Mapping[str, Any] = json.loads(self._path(id).read_text("utf-8"))
            entry = Entry(**fields)
        except (OSError, ValueError, TypeError):
            return None
        return entry if entry.id == id else None

    def path_of(self, entry: Entry) -> Path:
        """The folder of the run."""
        return self._home / entry.place

    def add(self, entry: Entry) -> None:
        """Note a run that begins, in place of what was known of it. Raises OSError."""
        with replacing(self._path(entry.id)) as part:
            part.write_bytes(_padded(entry))

    def close(self, entry: Entry) -> None:
        """Note the last word of a run, in the room that `add` took. Raises OSError."""
        with self._path(entry.id).open("rb+") as file:
            file.write(_padded(entry))
            file.flush()
            os.fsync(file.fileno())

    def forget(self, id: str) -> None:
        """Somebody has seen its end. Raises OSError."""
        self._path(id).unlink(missing_ok=True)

    def take(self, id: str) -> int | None:
        """The descriptor that keeps others from having a run at work, until it is closed; None
        where another one is at work. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = try_lock(self._folder / "lock")
        if descriptor is not None:
            with replacing(self._folder / "at-work") as part:
                part.write_text(id)
        return descriptor

    def at_work(self) -> str | None:
        """The id of the run that a living process has at work."""
        try:
            with looked_at(self._folder / "lock") as held:
                return (self._folder / "at-work").read_text() if held else None
        except OSError:
            return None

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}.json"


def _padded(entry: Entry) -> bytes:
    """As JSON, filled up with spaces; a last word that has no room is cut."""
    text = json.dumps(asdict(entry)).encode()
    if len(text) > ROOM and entry.problem is not None:
        left = len(entry.problem) - (len(text) - ROOM)
        short = asdict(entry) | {"problem": entry.problem[: max(0, left - 1)] + "…"}
        text = json.dumps(short).encode()
    return text.ljust(ROOM)
