"""The data home: may it be used, do the settings hold, are the chats whole."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from openchat_local.app.doctor.finding import Finding
from openchat_local.app.paths import HOME_VARIABLE, config_path, data_home
from openchat_local.app.wording import counted
from openchat_local.models.units import size_in_words

ELSEWHERE = f"or set {HOME_VARIABLE} to another folder"
# Another instance may be checkpointing.
BUSY_SECONDS = 15.0


def home() -> Iterator[Finding]:
    """That the folder is a folder, ours, private and writable. Nothing is created."""
    folder = data_home()
    facts = {"folder": str(folder), "exists": folder.exists()}
    if not folder.exists():
        blocked = next(f for f in folder.parents if f.exists())
        if not blocked.is_dir() or not os.access(blocked, os.W_OK | os.X_OK):
            yield Finding(
                "data home", "problem", f"{folder} is not there and cannot be made in {blocked}.",
                f"Make {blocked} a folder that you can write, {ELSEWHERE}.", facts,
            )  # fmt: skip
        else:
            text = f"{folder} is not there yet; the first chat makes it."
            yield Finding("data home", "ok", text, facts=facts)
    elif not folder.is_dir():
        yield Finding(
            "data home", "problem", f"{folder} is a file.", f"Move it away, {ELSEWHERE}.", facts
        )
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(
            "data home", "problem", f"{folder} may not be read and written.",
            f"Make it yours (chmod u+rwx '{folder}'), {ELSEWHERE}.", facts,
        )  # fmt: skip
    else:
        yield _privacy(folder, facts)


def settings() -> Iterator[Finding]:
    """That every setting is one, with a value that is allowed."""
    from openchat_local.app.settings.model import load_settings

    load_settings()  # raises a sentence that names the line, variable or flag
    path = config_path()
    there = path.exists()
    text = f"{path} is in order." if there else f"No settings file ({path}): all is as it comes."
    yield Finding("settings", "ok", text, facts={"file": str(path), "exists": there})


def database() -> Iterator[Finding]:
    """SQLite's own check of the chats. Another instance may be running meanwhile."""
    from openchat_local.app.chats.store import DATABASE_NAME

    path = data_home() / DATABASE_NAME
    if not path.exists():
        yield Finding("chats", "ok", "There are no chats yet.", facts={"exists": False})
        return
    size = path.stat().st_size
    facts = {"file": str(path), "exists": True, "bytes": size}
    try:
        with closing(_read_only(path)) as connection:
            faults = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
            if faults == ["ok"]:
                count = connection.execute("SELECT count(*) FROM chats").fetchone()[0]
    except sqlite3.Error as error:
        faults = [str(error)]
    if faults == ["ok"]:
        text = f"{counted(count, 'chat')}, {size_in_words(size)}, whole."
        yield Finding("chats", "ok", text, facts=facts | {"chats": count})
        return
    yield Finding(
        "chats", "problem", f"{path} is damaged ({'; '.join(faults)}).",
        f"Close openchat-local, move {path.name} and {path.name}-wal aside, and bring your last "
        "backup back with openchat-local history restore FILE.", facts | {"faults": faults},
    )  # fmt: skip


def _privacy(folder: Path, facts: dict[str, Any]) -> Finding:
    if os.name == "nt":
        return Finding("data home", "ok", f"{folder}.", facts=facts)
    status = folder.stat()
    mode = stat.S_IMODE(status.st_mode)
    facts = facts | {"mode": f"{mode:04o}"}
    if mode & stat.S_ISVTX:
        return Finding(
            "data home", "problem", f"{folder} is shared between users.",
            f"Set {HOME_VARIABLE} to a folder of your own.", facts,
        )  # fmt: skip
    if mode & 0o077 and status.st_uid == os.getuid():
        return Finding(
            "data home", "note", f"{folder} can be read by other users (mode {mode:04o}).",
            f"The next chat closes it; now: chmod 700 '{folder}'", facts,
        )  # fmt: skip
    return Finding("data home", "ok", f"{folder}, readable by you alone.", facts=facts)


def _read_only(path: Path) -> sqlite3.Connection:
    # In a folder that cannot be written SQLite has nowhere to put the shared memory that a
    # write-ahead log needs; nobody can be writing there then.
    frozen = "" if os.access(path.parent, os.W_OK) else "&immutable=1"
    uri = f"{path.absolute().as_uri()}?mode=ro{frozen}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)
