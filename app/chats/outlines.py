"""Chats without their words: what happened to each reply, of thousands of chats at once.

Everything here is read from the rows of chats and votes and from one index of messages; no text is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from openchat_local.app.chats import search, votes
from openchat_local.app.chats.records import Outcome
from openchat_local.models.conversation import Role


@dataclass(frozen=True, slots=True)
class Sieve:
    """Which chats: used last at or after `since` and before `until` (seconds since the epoch),
    with one of the `tags`, found by the words of `search`, with a reply by `model`. What is
    empty or None lets every chat through."""

    since: float | None = None
    until: float | None = None
    tags: frozenset[str] = frozenset()
    search: str = ""
    model: str | None = None


class MessageOutline(NamedTuple):
    """A message's place in the tree and what became of it, as in `StoredMessage`."""

    id: str
    parent_id: str | None
    role: Role
    finish_reason: str | None
    rating: int | None
    edited: bool
    vote: Outcome | None = None


@dataclass(frozen=True, slots=True)
class ChatOutline:
    """A chat and its messages in the order they were made; of a private one and of one that is
    `hidden` (deleted, and perhaps to be brought back), no messages. The rest is as in `Chat`."""

    id: str
    title: str
    updated_at: float
    private: bool
    hidden: bool
    origin: str | None
    leaf_id: str | None
    messages: Sequence[MessageOutline]


def outlines(connection: sqlite3.Connection, sieve: Sieve) -> list[ChatOutline]:
    """The chats that the sieve lets through, those used last first."""
    found = search.chats_with(connection, sieve.search) if sieve.search.strip() else None
    chats = [
        row for row in connection.execute(*_chats(sieve)) if found is None or row["id"] in found
    ]
    open_ids = {row["id"] for row in chats if not (row["private"] or row["hidden"])}
    messages = dict(_messages(connection, open_ids))
    return [
        ChatOutline(
            row["id"],
            row["title"],
            row["updated_at"],
            bool(row["private"]),
            bool(row["hidden"]),
            row["origin"],
            row["leaf_id"],
            messages.get(row["id"], ()),
        )
        for row in chats
    ]


def _chats(sieve: Sieve) -> tuple[str, dict[str, object]]:
    """The query for the chats, but for the words to be found in them."""
    conditions = ["true"]
    values: dict[str, object] = {}
    if sieve.since is not None:
        conditions.append("c.updated_at >= :since")
        values["since"] = sieve.since
    if sieve.until is not None:
        conditions.append("c.updated_at < :until")
        values["until"] = sieve.until
    if sieve.tags:
        values |= {f"tag{number}": tag for number, tag in enumerate(sorted(sieve.tags))}
        names = ", ".join(f":tag{number}" for number in range(len(sieve.tags)))
        conditions.append(f"c.id IN (SELECT chat_id FROM chat_tags WHERE tag IN ({names}))")
    if sieve.model is not None:
        conditions.append(
            "EXISTS (SELECT 1 FROM messages m INDEXED BY messages_shape"
            " WHERE m.chat_id = c.id AND m.model = :model)"
        )
        values["model"] = sieve.model
    sql = f"""
        SELECT c.id, c.title, c.updated_at, c.private, c.hidden_by IS NOT NULL AS hidden,
            c.origin, c.leaf_id
        FROM chats c WHERE {" AND ".join(conditions)} ORDER BY c.updated_at DESC, c.seq DESC
    """
    return sql, values


_COLUMNS = "chat_id, id, parent_id, role, finish_reason, rating, edited"
_FEW = 200  # chats, for which looking each up is less than reading the whole index


def _messages(
    connection: sqlite3.Connection, chat_ids: set[str]
) -> Iterator[tuple[str, list[MessageOutline]]]:
    """The messages of each of these chats."""
    source = f"SELECT {_COLUMNS} FROM messages INDEXED BY messages_shape"
    if len(chat_ids) <= _FEW:
        rows: Iterator[sqlite3.Row] = (
            row
            for chat_id in sorted(chat_ids)
            for row in connection.execute(f"{source} WHERE chat_id = ? ORDER BY seq", (chat_id,))
        )
    else:
        rows = connection.execute(f"{source} ORDER BY chat_id, seq")
    outcomes = votes.outcomes(connection)
    for chat_id, group in groupby(rows, key=itemgetter(0)):
        if chat_id in chat_ids:
            yield (
                chat_id,
                [MessageOutline._make((*tuple(row)[1:], outcomes.get(row[1]))) for row in group],
            )
