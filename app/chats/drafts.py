"""Chats that are not in the store yet, as an import hands them over."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openchat_local.app.chats import writing
from openchat_local.models.conversation import Role, SampledIds


@dataclass(frozen=True, slots=True)
class MessageDraft:
    """A message under the one at index `parent` of the same chat (None: at the root).

    `fields` are further columns of its row: `created_at`, `usage` and the like.
    """

    role: Role
    content: str
    parent: int | None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChatDraft:
    """A chat: columns of its row, its messages (parents first), its tags, the index of the
    message at the end of the shown branch (None: the last one), and the program that it comes
    from (None: this one).
    """

    messages: tuple[MessageDraft, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    leaf: int | None = None
    origin: str | None = None


def insert(connection: sqlite3.Connection, draft: ChatDraft) -> str:
    """Write a draft under new ids and return the chat's."""
    fields = dict(draft.fields)
    updated_at = fields.pop("updated_at", None)
    chat_id = writing.insert_chat(connection, origin=draft.origin, **fields)
    writing.set_tags(connection, chat_id, draft.tags)
    ids: list[str] = []
    for message in draft.messages:
        columns = dict(message.fields)
        if (sampled := columns.get("token_ids")) is not None:
            columns["token_ids"] = SampledIds.of(sampled).packed
        parent_id = None if message.parent is None else ids[message.parent]
        ids.append(
            writing.insert_message(
                connection, chat_id, parent_id, message.role, message.content, **columns
            )
        )
    if "title" in fields:  # also an empty one: the first prompt has given it a title
        writing.set_title(connection, chat_id, fields["title"])
    if draft.leaf is not None:
        writing.show(connection, chat_id, ids[draft.leaf])
    if updated_at is not None:
        sql = "UPDATE chats SET updated_at = ? WHERE id = ?"
        connection.execute(sql, (updated_at, chat_id))
    return chat_id
