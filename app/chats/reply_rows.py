"""Replies in the making: begun, flushed, finished, or closed after a crash."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

from openchat_local.app.chats import index, tree
from openchat_local.app.chats.errors import MessageNotFound
from openchat_local.app.chats.records import ReplyEnd, StoredMessage, to_json
from openchat_local.models.conversation import SampledIds


def flush(connection: sqlite3.Connection, instance: str, message_id: str, content: str) -> None:
    """Save what has come so far. Raises MessageNotFound."""
    changed = connection.execute(
        "UPDATE messages SET content = ? WHERE id = ? AND instance = ?",
        (content, message_id, instance),
    ).rowcount
    if not changed:
        raise _not_ours(message_id)


def finish(
    connection: sqlite3.Connection,
    instance: str,
    message_id: str,
    content: str,
    reason: ReplyEnd,
    usage: dict[str, Any] | None = None,
    sampled: SampledIds | None = None,
) -> StoredMessage:
    """Save the reply, close its row and index it. Raises MessageNotFound."""
    changed = connection.execute(
        """
        UPDATE messages
        SET content = ?, finish_reason = ?, usage = ?, token_ids = ?, vocabulary = ?,
            instance = NULL
        WHERE id = ? AND instance = ?
        """,
        (
            content,
            reason,
            to_json(usage),
            None if sampled is None else sampled.packed,
            None if sampled is None else sampled.vocabulary,
            message_id,
            instance,
        ),
    ).rowcount
    if not changed:
        raise _not_ours(message_id)
    sql = "SELECT seq, chat_id FROM messages WHERE id = ?"
    row = connection.execute(sql, (message_id,)).fetchone()
    index.add_message(connection, row["seq"], content)
    connection.execute(
        "UPDATE chats SET updated_at = ? WHERE id = ?", (time.time(), row["chat_id"])
    )
    return tree.message(connection, message_id)


def recover(connection: sqlite3.Connection, is_alive: Callable[[str], bool]) -> int:
    """Close the replies of instances that died, with what they had flushed.

    Returns how many there were.
    """
    dead = unfinished(connection, is_alive)
    for row in dead:
        finish(connection, row["instance"], row["id"], row["content"], "interrupted")
    return len(dead)


def unfinished(
    connection: sqlite3.Connection, is_alive: Callable[[str], bool]
) -> list[sqlite3.Row]:
    """The id, instance and content of every reply that nobody will finish."""
    rows = connection.execute(
        "SELECT id, instance, content FROM messages WHERE instance IS NOT NULL"
    ).fetchall()
    return [row for row in rows if not is_alive(row["instance"])]


def _not_ours(message_id: str) -> MessageNotFound:
    return MessageNotFound(
        f"The reply {message_id} is not being written here any more; its chat may have been "
        "deleted or restored in another window: open another chat."
    )
