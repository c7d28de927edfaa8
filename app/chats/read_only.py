"""The chats of a home in which nothing can be written: another machine's disk, a backup."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from openchat_local.app.chats.database import BUSY_SECONDS, Database
from openchat_local.app.chats.errors import ChatStoreError, translated
from openchat_local.app.chats.instances import Instance
from openchat_local.app.chats.migrations import is_current
from openchat_local.app.chats.store import DATABASE_NAME, ChatStore


def is_read_only(home: Path) -> bool:
    """Whether there are chats in `home` that can be read and not written."""
    path = home / DATABASE_NAME
    if not os.access(path, os.R_OK):
        return False
    return not (os.access(home, os.W_OK | os.X_OK) and os.access(path, os.W_OK))


class ReadOnlyStore(ChatStore):
    """Chats to look at. Whatever would change one raises ChatStoreError."""

    @classmethod
    def open(cls, home_dir: Path, given_up: Callable[[], bool] = lambda: False) -> ReadOnlyStore:
        """The chats of a home folder, which stays exactly as it is; nobody is waited for. Raises
        ChatStoreError."""
        database = _ReadOnlyDatabase(home_dir / DATABASE_NAME)
        try:
            with database.exclusive() as connection:
                if not is_current(connection, database.path):
                    raise ChatStoreError(
                        f"The chats in {database.path} are of an earlier version and must be "
                        "brought up to date, for which the folder must be writable: copy it, and "
                        "set OPENCHAT_LOCAL_HOME to the copy."
                    )
        except BaseException:
            database.close()
            raise
        return cls(database, _Nobody())

    def close(self) -> None:
        """Close the file; harmless when done already."""
        self._database.close()


class _ReadOnlyDatabase(Database):
    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._open = True
        with translated(path):
            self._connection = _connect(path)


class _Nobody(Instance):
    """No instance: it has no name, and nobody else's is asked for."""

    def __init__(self) -> None:
        self.id = ""
        self._descriptor = None

    def is_alive(self, instance_id: str) -> bool:
        return True  # what others have begun is theirs


def _connect(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error or ChatStoreError.

    SQLite wants to make a file of shared memory beside a database with a write-ahead log. It
    does without where the database is said never to change, and then does not look into the
    log: which is right only where there is nothing in it.
    """
    log = path.with_name(f"{path.name}-wal")
    unfinished = log.exists() and log.stat().st_size > 0
    address = f"file:{quote(str(path.absolute()))}?mode=ro{'' if unfinished else '&immutable=1'}"
    try:
        connection = sqlite3.connect(
            address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("SELECT name FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError as error:
        if not unfinished:
            raise
        raise ChatStoreError(
            f"The chats in {path} were not closed, and their last changes cannot be read where "
            "nothing can be written: copy the folder, and set OPENCHAT_LOCAL_HOME to the copy."
        ) from error
    return connection
