"""What can go wrong with the chat database, each as one sentence for the user."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openchat_local.models.errors import OpenChatError


class ChatStoreError(OpenChatError):
    """The chat database cannot be opened, read or written."""


class ChatNotFound(ChatStoreError):
    """No chat, or more than one, goes by this id."""


class MessageNotFound(ChatStoreError):
    """No such message; its chat may have been deleted in another window."""


class ChatImportError(ChatStoreError):
    """A file was not imported. `faults` names every fault with its place in the file;
    `advice` is a sentence that says what to do."""

    SHOWN = 8

    def __init__(self, source: str, faults: tuple[str, ...], advice: str) -> None:
        self.faults = faults
        shown = "; ".join(faults[: self.SHOWN])
        more = f"; and {len(faults) - self.SHOWN} more" if len(faults) > self.SHOWN else ""
        super().__init__(f"Nothing was imported from {source}: {shown}{more}. {advice}")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the faults of SQLite and of the disk under it into `ChatStoreError`.

    What can only be a bug in this program (a broken constraint, a syntax error)
    passes through unchanged.
    """
    try:
        yield
    except sqlite3.Error as error:
        sentence = _sqlite_sentence(path, error)
        if sentence is None:
            raise
        raise ChatStoreError(sentence) from error
    except UnicodeEncodeError as error:
        raise ChatStoreError(
            "The text holds bytes that are not UTF-8 and cannot be saved; "
            "convert it to UTF-8 and try again."
        ) from error
    except OSError as error:
        raise ChatStoreError(_disk_sentence(path, error)) from error


_LEAST_FREE = 64 * 1024  # bytes; the -shm file alone takes 32 KiB

_MOVE_AWAY = (
    "move it away, then start afresh or restore a backup with `openchat-local history restore FILE`"
)


def _sqlite_sentence(path: Path, error: sqlite3.Error) -> str | None:
    code = getattr(error, "sqlite_errorcode", None)
    # The low byte is the primary code; the rest only tells its flavours apart.
    match None if code is None else code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return f"The disk that holds {path} is full; make room and try again."
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN:
            return (
                f"The chats in {path} cannot be written; make the file and its folder "
                "writable, or set OPENCHAT_LOCAL_HOME to another folder."
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"Another program keeps the chats in {path} locked; close it and try again."
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return f"{path} is damaged or not a chat database ({error}); {_MOVE_AWAY}."
        case sqlite3.SQLITE_IOERR if _is_full(path):
            return f"The disk that holds {path} is full; make room and try again."
        case sqlite3.SQLITE_IOERR:
            return (
                f"The disk failed while the chats in {path} were read or written ({error}); "
                "check the disk and its free space, then try again."
            )
        case sqlite3.SQLITE_TOOBIG:
            return "The text is too long to be saved (over a gigabyte); split it and try again."
        case _:
            return None


def _is_full(path: Path) -> bool:
    # SQLite reports a full disk as a failed write where it grows its -shm or -wal file.
    try:
        return shutil.disk_usage(path.parent).free < _LEAST_FREE
    except OSError:
        return False


def _disk_sentence(path: Path, error: OSError) -> str:
    place = error.filename or path
    if error.errno == errno.ENOSPC:
        return f"The disk that holds {place} is full; make room and try again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{place} cannot be written ({error.strerror}); make it writable, or set "
            "OPENCHAT_LOCAL_HOME to another folder."
        )
    return f"{place} cannot be used ({error.strerror or error}); correct that and try again."
