"""The `.zip` that a chat service lets one download: the chats in it, within bounds."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openchat_local.app.chats.errors import ChatImportError

if TYPE_CHECKING:
    import zipfile

MAGIC = b"PK\x03\x04"

# Text packs 3 to 20 times smaller; what packs a thousand times smaller is there to fill
# memories. A small archive may hold anything.
LARGEST_RATIO = 200
ALWAYS_ALLOWED = 64 * 1024**2  # bytes
LARGEST = 4 * 1024**3  # bytes

_CONVERSATIONS = re.compile(r"(^|/)conversations([-_]?\d+)?\.jsonl?$", re.IGNORECASE)
_JSON = re.compile(r"\.jsonl?$", re.IGNORECASE)
FEEDBACK = "message_feedback.json"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive."""

    name: str
    data: bytes


def is_archive(data: bytes) -> bool:
    return data.startswith(MAGIC)


def members(source: str, data: bytes) -> Iterator[Member]:
    """The files with chats in an archive's bytes: those called conversations.json where there
    are any, else all JSON; the file of ratings comes first.

    Raises ChatImportError for an archive that cannot be read, or that grows too large.
    """
    import zipfile
    import zlib

    room = min(LARGEST, max(ALWAYS_ALLOWED, LARGEST_RATIO * len(data)))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in _chosen(archive.infolist()):
                # Not what the archive says of itself: what comes out of it counts.
                with archive.open(info) as file:
                    content = file.read(room + 1)
                room -= len(content)
                if room < 0:
                    raise ChatImportError(
                        source,
                        (f"{info.filename} unpacks to more than an archive of chats would",),
                        "Unpack it yourself and import the file with the chats.",
                    )
                yield Member(info.filename, content)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise ChatImportError(
            source,
            (f"it is not a .zip that can be read here ({error})",),
            "Download it again, or unpack it and import the file with the chats.",
        ) from error


def _chosen(infos: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    files = [
        info for info in infos if not info.is_dir() and not info.filename.startswith("__MACOSX/")
    ]
    named = [info for info in files if _CONVERSATIONS.search(info.filename)]
    chosen = named or [info for info in files if _JSON.search(info.filename)]
    ratings = [info for info in files if info.filename.rpartition("/")[2] == FEEDBACK]
    return ratings + sorted(
        (info for info in chosen if info not in ratings), key=lambda info: info.filename
    )
