"""KV states that have outlived their chat.

An engine that holds a chat writes its state when it closes, and may not have heard that
the chat was deleted in a shell or in another window.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from openchat_local.app.chats.database import Database


def remove(database: Database, folder: Path) -> None:
    """Remove the states in `folder` of chats that are not in the database, or private."""
    # The files first: what is listed had its chat in the database before it had a state.
    try:
        owners = {path.name.partition(".")[0] for path in folder.iterdir()}
    except OSError:  # mostly that there is no such folder yet; the engine tells the rest
        return
    if not owners:
        return
    with database.reading() as connection:
        sql = "SELECT id FROM chats WHERE NOT private AND hidden_by IS NULL"
        rows = connection.execute(sql).fetchall()
    lost = owners - {row["id"] for row in rows}
    if lost:
        from openchat_local.models.engine.states import forget_chat

        for chat_id in lost:
            # Windows refuses while an engine reads it, and a stray file is none of ours.
            with contextlib.suppress(OSError, ValueError):
                forget_chat(folder, chat_id)
