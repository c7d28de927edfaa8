"""Reading the message tree. Every function is one query on an open transaction."""

from __future__ import annotations

import sqlite3

from openchat_local.app.chats.errors import ChatNotFound, MessageNotFound
from openchat_local.app.chats.records import (
    CHAT_COLUMNS,
    MESSAGE_COLUMNS,
    Chat,
    StoredMessage,
    read_chat,
    read_message,
)

SHORTEST_PREFIX = 4


def chat(connection: sqlite3.Connection, chat_id: str) -> Chat:
    """Raises ChatNotFound."""
    found = chats(connection, "WHERE c.id = ?", chat_id)
    if not found:
        raise _no_chat(chat_id)
    return found[0]


def chat_title(connection: sqlite3.Connection, chat_id: str) -> str:
    """Raises ChatNotFound. (A whole `Chat` costs a count of its messages.)"""
    sql = "SELECT title FROM chats WHERE id = ? AND hidden_by IS NULL"
    row = connection.execute(sql, (chat_id,)).fetchone()
    if row is None:
        raise _no_chat(chat_id)
    title: str = row["title"]
    return title


def chats(connection: sqlite3.Connection, rest: str, *parameters: object) -> list[Chat]:
    """Chats under the SQL clauses `rest`, with `c` for the chat; hidden ones are not there."""
    sql = f"SELECT {CHAT_COLUMNS} FROM (SELECT * FROM chats WHERE hidden_by IS NULL) c {rest}"
    return [read_chat(row) for row in connection.execute(sql, parameters)]


def find_chat(connection: sqlite3.Connection, part: str) -> Chat:
    """The one chat whose id begins or ends with `part`. Raises ChatNotFound."""
    if len(part) < SHORTEST_PREFIX:
        raise ChatNotFound(
            f'"{part}" is too short for a chat\'s id; give {SHORTEST_PREFIX} or more.'
        )
    sql = """
        WHERE substr(c.id, 1, length(?1)) = lower(?1) OR substr(c.id, -length(?1)) = lower(?1)
        ORDER BY c.id != ?1 LIMIT 2
    """
    found = chats(connection, sql, part)
    if not found:
        raise ChatNotFound(
            f'No chat\'s id begins or ends with "{part}"; '
            "`openchat-local history list` shows the ids."
        )
    if len(found) > 1 and found[0].id != part:
        raise ChatNotFound(f'More than one chat goes by "{part}"; give more of the id.')
    return found[0]


def message(connection: sqlite3.Connection, message_id: str) -> StoredMessage:
    """Raises MessageNotFound."""
    found = messages(connection, "WHERE m.id = ?", message_id)
    if not found:
        raise MessageNotFound(
            f"There is no message {message_id}; its chat may have been deleted in another window."
        )
    return found[0]


def require_message(connection: sqlite3.Connection, chat_id: str, message_id: str) -> None:
    """Raises MessageNotFound if the chat has no such message."""
    if message(connection, message_id).chat_id != chat_id:
        raise MessageNotFound(f"The message {message_id} belongs to another chat than {chat_id}.")


def messages(connection: sqlite3.Connection, rest: str, *parameters: object) -> list[StoredMessage]:
    """Messages under the SQL clauses `rest`, with `m` for the message."""
    sql = f"SELECT {MESSAGE_COLUMNS} FROM messages m {rest}"
    return [read_message(row) for row in connection.execute(sql, parameters)]


def path_to(connection: sqlite3.Connection, message_id: str) -> list[StoredMessage]:
    """From the root to the message itself. Raises MessageNotFound."""
    sql = f"""
        WITH RECURSIVE path (id, parent_id, depth) AS (
            SELECT id, parent_id, 0 FROM messages WHERE id = ?
            UNION ALL
            SELECT up.id, up.parent_id, depth + 1
            FROM path JOIN messages up ON up.id = path.parent_id)
        SELECT {MESSAGE_COLUMNS} FROM path JOIN messages m ON m.id = path.id ORDER BY depth DESC
    """
    rows = connection.execute(sql, (message_id,)).fetchall()
    return [read_message(row) for row in rows] or [message(connection, message_id)]


def children(
    connection: sqlite3.Connection, chat_id: str, parent_id: str | None
) -> list[StoredMessage]:
    """The messages that answer `parent_id` (None: that open the chat), oldest first."""
    rest = "WHERE m.chat_id = ? AND m.parent_id IS ? ORDER BY m.seq"
    return messages(connection, rest, chat_id, parent_id)


def recent_prompts(connection: sqlite3.Connection, chat_id: str | None, limit: int) -> list[str]:
    """The user turns written last, newest first, each once."""
    sql = """
        SELECT m.content FROM messages m JOIN chats c ON c.id = m.chat_id
        WHERE m.role = 'user' AND c.hidden_by IS NULL AND (NOT c.private OR c.id = ?)
        ORDER BY m.seq DESC LIMIT ?
    """
    rows = connection.execute(sql, (chat_id, limit))
    return list(dict.fromkeys(row["content"] for row in rows))


def newest_leaf(connection: sqlite3.Connection, message_id: str) -> str:
    """The end of the branch that was last at work under a message, itself included.

    The newest message of a subtree is a leaf: any child of it would be newer still.
    """
    sql = """
        WITH RECURSIVE below (id, chat_id, seq) AS (
            SELECT id, chat_id, seq FROM messages WHERE id = ?
            UNION ALL
            SELECT down.id, down.chat_id, down.seq FROM below
            JOIN messages down ON down.chat_id = below.chat_id AND down.parent_id = below.id)
        SELECT id FROM below ORDER BY seq DESC LIMIT 1
    """
    leaf: str = connection.execute(sql, (message_id,)).fetchone()["id"]
    return leaf


def _no_chat(chat_id: str) -> ChatNotFound:
    return ChatNotFound(
        f"There is no chat {chat_id}; it may have been deleted "
        "(`openchat-local history list` shows what there is)."
    )
