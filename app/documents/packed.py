"""A zip archive with a document in it: which kind, and its members, no more than is sane."""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, BinaryIO, cast
from urllib.parse import unquote

from openchat_local.app.documents.document import Unreadable
from openchat_local.app.documents.markup import DAMAGED, Event, Start, events

MOST_UNPACKED = 512 << 20  # bytes, of all members that are read
MOST_MEMBERS = 50_000


class Packed:
    """The members of an archive by name. Raises Unreadable for what is none, or unpacks to more
    than any document."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            raise DAMAGED from None
        self.names = set(self._archive.namelist())
        self._left = MOST_UNPACKED
        if len(self.names) > MOST_MEMBERS:
            raise Unreadable(f"is an archive of {len(self.names):,} files", "attach one of them")

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def open(self, name: str) -> IO[bytes]:
        """A member, to be read from its beginning to its end."""
        try:
            info = self._archive.getinfo(name)
            if info.flag_bits & 1:
                raise Unreadable("is protected by a password", "save a copy without one")
            return cast("IO[bytes]", io.BufferedReader(_Bounded(self, self._archive.open(info))))
        except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError):
            raise DAMAGED from None

    def events(self, name: str) -> Iterator[Event]:
        """The XML of a member; nothing where there is none of that name."""
        if name in self.names:
            with self.open(name) as stream:
                yield from events(stream)

    def related(self, name: str) -> dict[str, tuple[str, str]]:
        """What the member `name` of an Office file refers to: the kind of the relation and the
        member, by the id of the relation."""
        folder, _, file = name.rpartition("/")
        rels = f"{folder}/_rels/{file}.rels" if folder else f"_rels/{file}.rels"
        found = {}
        for event in self.events(rels):
            if isinstance(event, Start) and event.name == "Relationship":
                given = event.attributes
                if given.get("TargetMode") != "External":
                    kind = given.get("Type", "").rpartition("/")[2]
                    found[given.get("Id", "")] = kind, member(name, given.get("Target", ""))
        return found

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Unreadable(
                f"unpacks to more than {MOST_UNPACKED >> 20} MiB (a zip bomb?)", "do not trust it"
            )


def member(beside: str, target: str) -> str:
    """The name of the member that `target` means where the member `beside` names it."""
    target = unquote(target.partition("#")[0])
    if target.startswith("/"):
        return posixpath.normpath(target.lstrip("/"))
    return posixpath.normpath(posixpath.join(posixpath.dirname(beside), target))


class _Bounded(io.RawIOBase):
    """A member that counts what it gives."""

    def __init__(self, packed: Packed, member: IO[bytes]) -> None:
        self._packed = packed
        self._member = member

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        try:
            data = self._member.read(len(view))
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError):
            raise DAMAGED from None
        self._packed.spend(len(data))
        view[: len(data)] = data
        return len(data)
