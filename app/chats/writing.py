"""Rows of chats and messages: written on an open transaction, index and leaf included."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from openchat_local.app.chats import index, tree
from openchat_local.app.chats.errors import ChatStoreError
from openchat_local.app.chats.ids import new_id
from openchat_local.app.chats.records import to_json
from openchat_local.models.conversation import Role

TITLE_LENGTH = 60


class ChatFields(TypedDict, total=False):
    """What can be changed in a chat."""

    title: str
    model: str | None
    template: str | None
    adapter: str | None
    condition: str | None
    system_prompt: str
    sampling: dict[str, Any] | None
    private: bool
    pinned: bool
    draft: str
    tags: Sequence[str]


def insert_chat(connection: sqlite3.Connection, **fields: Any) -> str:
    """A chat with these columns; the id and the times are added. Returns the id."""
    now = time.time()
    row: dict[str, Any] = {"id": new_id(), "created_at": now, "updated_at": now}
    row |= _columns(fields)
    seq = _insert(connection, "chats", row)
    index.set_title(connection, seq, row.get("title", ""))
    return str(row["id"])


def update_chat(connection: sqlite3.Connection, chat_id: str, fields: Mapping[str, Any]) -> None:
    """Raises ChatNotFound."""
    tree.chat(connection, chat_id)
    columns = _columns(fields)
    tags = columns.pop("tags", None)
    if tags is not None:
        set_tags(connection, chat_id, tags)
    for name, value in columns.items():  # names come from ChatFields, never from outside
        connection.execute(f"UPDATE chats SET {name} = ? WHERE id = ?", (value, chat_id))
    if "title" in columns:
        set_title(connection, chat_id, columns["title"])


def is_empty(connection: sqlite3.Connection, chat_id: str) -> bool:
    """Whether the chat is there, with neither a message nor a draft."""
    row = connection.execute(
        "SELECT 1 FROM chats WHERE id = ? AND draft = ''"
        " AND NOT EXISTS (SELECT 1 FROM messages WHERE chat_id = chats.id)",
        (chat_id,),
    ).fetchone()
    return row is not None


def delete_chat(connection: sqlite3.Connection, chat_id: str) -> None:
    """Remove an existing chat's rows and index entries."""
    index.remove_chat(connection, chat_id)
    connection.execute("UPDATE chats SET leaf_id = NULL WHERE id = ?", (chat_id,))
    connection.execute("DELETE FROM messages WHERE chat_id = ?", (chat_id,))
    connection.execute("DELETE FROM chats WHERE id = ?", (chat_id,))


def hide(connection: sqlite3.Connection, chat_id: str, instance: str) -> None:
    """Take an existing chat out of everybody's sight."""
    connection.execute("UPDATE chats SET hidden_by = ? WHERE id = ?", (instance, chat_id))


def unhide(connection: sqlite3.Connection, chat_id: str, instance: str) -> None:
    """Show a chat again that `instance` has hidden; nothing happens to any other."""
    sql = "UPDATE chats SET hidden_by = NULL WHERE id = ? AND hidden_by = ?"
    connection.execute(sql, (chat_id, instance))


def hidden(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """The hidden chats: (id, instance that has hidden it)."""
    rows = connection.execute("SELECT id, hidden_by FROM chats WHERE hidden_by IS NOT NULL")
    return [(row["id"], row["hidden_by"]) for row in rows]


def set_title(connection: sqlite3.Connection, chat_id: str, title: str) -> None:
    """Name an existing chat, and index the name."""
    # No RETURNING, here and elsewhere: some of Python 3.11's builds bundle SQLite 3.34.
    connection.execute("UPDATE chats SET title = ? WHERE id = ?", (title, chat_id))
    row = connection.execute("SELECT seq FROM chats WHERE id = ?", (chat_id,)).fetchone()
    index.set_title(connection, row["seq"], title)


def set_tags(connection: sqlite3.Connection, chat_id: str, tags: Sequence[str]) -> None:
    """Replace the tags of an existing chat. Raises ChatStoreError."""
    if not all(map(is_tag, tags)):
        raise ChatStoreError("A tag is empty or holds a control character; choose another.")
    connection.execute("DELETE FROM chat_tags WHERE chat_id = ?", (chat_id,))
    rows = [(chat_id, tag) for tag in dict.fromkeys(tag.strip() for tag in tags)]
    connection.executemany("INSERT INTO chat_tags (chat_id, tag) VALUES (?, ?)", rows)


def is_tag(text: str) -> bool:
    """Whether the text can be a tag: visible, and without control characters."""
    return bool(text.strip()) and not any(ord(c) < 0x20 or c == "\x7f" for c in text)


def insert_message(
    connection: sqlite3.Connection,
    chat_id: str,
    parent_id: str | None,
    role: Role,
    content: str,
    **fields: Any,
) -> str:
    """A message with these further columns, which becomes the leaf. Returns its id.

    A reply that no instance is writing counts as complete ("stop"). Raises
    ChatNotFound, MessageNotFound.
    """
    title = tree.chat_title(connection, chat_id)
    if parent_id is not None:
        tree.require_message(connection, chat_id, parent_id)
    now = time.time()
    row = {
        "id": new_id(),
        "chat_id": chat_id,
        "parent_id": parent_id,
        "role": role,
        "content": content,
        "created_at": now,
    } | _columns(fields)
    being_written = row.get("instance") is not None
    if role == "assistant" and not being_written:
        row.setdefault("finish_reason", "stop")
    seq = _insert(connection, "messages", row)
    if not being_written:
        index.add_message(connection, seq, content)
    if role == "user" and not title:
        set_title(connection, chat_id, title_from(content))
    show(connection, chat_id, str(row["id"]))
    connection.execute("UPDATE chats SET updated_at = ? WHERE id = ?", (now, chat_id))
    return str(row["id"])


def show(connection: sqlite3.Connection, chat_id: str, leaf_id: str) -> None:
    """Make the branch that ends in `leaf_id` the one that is shown."""
    connection.execute("UPDATE chats SET leaf_id = ? WHERE id = ?", (leaf_id, chat_id))


def title_from(prompt: str) -> str:
    """The first line that says something, cut at TITLE_LENGTH characters."""
    lines = (" ".join(line.split()) for line in prompt.splitlines())
    line = next(filter(None, lines), "")
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"


def _columns(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: to_json(value) if name in ("sampling", "usage") else value
        for name, value in fields.items()
    }


def _insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
    cursor = connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", dict(row))
    assert cursor.lastrowid is not None
    return cursor.lastrowid
