"""The whole database as one file, and back."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from openchat_local.app.chats.database import Database, connect
from openchat_local.app.chats.errors import ChatStoreError, translated
from openchat_local.app.chats.ids import new_id
from openchat_local.app.chats.migrations import migrate
from openchat_local.models.system.atomic import rename_new

SQLITE_MAGIC = b"SQLite format 3\0"


def backup(database: Database, target: Path) -> None:
    """Copy a consistent state of the database to the new file `target`.

    The file has its name only when it is complete. Raises ChatStoreError.
    """
    if target.exists():
        raise ChatStoreError(f"{target} is there already; choose another name for the backup.")
    if not target.parent.is_dir():
        raise ChatStoreError(f"There is no folder {target.parent}; create it and try again.")
    # `translated(target)` is the inner one: a full disk is then the target's.
    with (
        database.exclusive() as connection,
        translated(target),
        _scratch_file(target.parent) as scratch,
    ):
        with closing(connect(scratch)) as copy:
            connection.backup(copy)
            # A backup is one file: nothing of it may stay in a write-ahead log.
            copy.execute("PRAGMA journal_mode = DELETE")
        rename_new(scratch, target)


def restore(database: Database, source: Path, other_instances: Sequence[str]) -> None:
    """Replace the database's contents by those of `source`, migrated and checked first.

    Raises ChatStoreError; the database is then as before.
    """
    if other_instances:
        raise ChatStoreError(
            "Another openchat-local is running on these chats; close it and restore again."
        )
    _require_sqlite(source)
    with translated(source), _scratch_file(database.path.parent) as scratch:
        with translated(database.path):  # a full disk is that of the home
            _copy(source, scratch)
        with closing(connect(scratch)) as copy:
            _require_chats(copy, source)
            migrate(copy, source)
            with database.exclusive() as connection:
                copy.backup(connection)
    database.scrub()


def _copy(source: Path, scratch: Path) -> None:
    import shutil  # 5 ms that only a restore should cost

    for suffix in ("", "-wal"):  # somebody may have copied a live database with its log
        if Path(f"{source}{suffix}").exists():
            shutil.copyfile(f"{source}{suffix}", f"{scratch}{suffix}")


def _require_sqlite(source: Path) -> None:
    with translated(source):
        if not source.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        with source.open("rb") as file:
            magic = file.read(len(SQLITE_MAGIC))
    if magic != SQLITE_MAGIC:
        raise ChatStoreError(
            f"{source} is not a backup of chats; give a file that "
            "`openchat-local history backup` has written."
        )


def _require_chats(connection: sqlite3.Connection, source: Path) -> None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if not {"migrations", "chats", "messages"} <= tables:
        raise ChatStoreError(f"{source} is a database, but not one of chats; give another file.")
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok" or connection.execute("PRAGMA foreign_key_check").fetchone():
        raise ChatStoreError(f"{source} is damaged ({verdict}); restore another backup.")


@contextmanager
def _scratch_file(folder: Path) -> Iterator[Path]:
    scratch = folder / f".{new_id()}.partial"
    try:
        yield scratch
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{scratch}{suffix}").unlink(missing_ok=True)
