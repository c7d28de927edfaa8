"""The SQLite file: how it is opened, and transactions on it."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from openchat_local.app.chats.errors import ChatStoreError, translated

# Longer than a deletion takes, which writes the whole index anew: 3 s at 100,000 messages.
BUSY_SECONDS = 15.0
# The log keeps the size of the largest transaction for good otherwise.
LARGEST_LOG = 4 * 1024 * 1024
# Free pages are used again; a file that is mostly free is worth being written anew.
MOSTLY_FREE = 0.5
WORTH_FREEING = 1024 * 1024  # bytes


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode that keeps what it writes private and safe.

    Raises sqlite3.Error and OSError; wrap it in `translated`.
    """
    # Created here and not by SQLite: the file is its owner's alone from the first byte
    # on, and the -wal and -shm files take over its mode. (Windows ignores the mode; a
    # folder in the user's profile shuts other users out by its access list.)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection)
        # A prompt is on disk, not in a cache of the system's, before the model sees it.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA journal_size_limit = {LARGEST_LOG}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_in_memory(_: Path) -> sqlite3.Connection:
    """A connection to an empty database that is nowhere on disk and ends with it."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _prepare(connection)
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    # No sorter may spill chats into the system's folder for temporary files.
    connection.execute("PRAGMA temp_store = MEMORY")


class Database:
    """One file, one connection, one lock: any thread may call.

    One connection rather than one a thread, because SQLite has a single writer anyhow,
    the workers of a UI come and go and would leak theirs, and `data_version` then
    counts exactly what *others* wrote.
    """

    def __init__(self, path: Path, connect: Callable[[Path], sqlite3.Connection] = connect) -> None:
        """Raises ChatStoreError."""
        self.path = path
        self._lock = threading.RLock()
        self._open = True
        with translated(path):
            self._connection = connect(path)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """All reads in the block see one state of the database. Raises ChatStoreError."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; on disk when the block has ended. Raises ChatStoreError."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def exclusive(self) -> Iterator[sqlite3.Connection]:
        """The bare connection, for what cannot run in a transaction. Raises ChatStoreError."""
        with self._lock, translated(self.path):
            if not self._open:
                raise ChatStoreError(f"The chats in {self.path} are closed; open them again.")
            yield self._connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self.exclusive() as connection:
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite has rolled back by itself.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def scrub(self) -> None:
        """Empty the write-ahead log, which still holds the text of deleted rows.

        While another instance reads for longer than BUSY_SECONDS the log stays; it goes
        with the next scrub, and at the latest when the last instance closes.
        """
        with self.exclusive() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def shrink(self) -> None:
        """Give the disk back what deleted rows took, where that is most of the file.

        It costs the writing of what is left, so never more than what was deleted. Where
        another instance is at work nothing happens: the next deletion tries again.
        """
        with self.exclusive() as connection:
            size, pages, free = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_size", "page_count", "freelist_count")
            )
            if free < MOSTLY_FREE * pages or free * size < WORTH_FREEING:
                return
            with suppress(sqlite3.OperationalError):  # locked, or no room for the copy
                connection.execute("VACUUM")
        self.scrub()

    @property
    def is_open(self) -> bool:
        """Whether `close` has not been called yet."""
        return self._open

    def close(self) -> None:
        """Close the file; harmless when it is closed already."""
        with self._lock:
            if self._open:
                self._open = False
                with translated(self.path):
                    self._connection.close()
