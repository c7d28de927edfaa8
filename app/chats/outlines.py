"""Chats without their words: what happened to each reply, of thousands of chats at once.

Everything here is read from the rows of chats and from one index of messages; no text is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

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


class Tally(NamedTuple):
    """Of a chat without versions, all of whose replies are whole: how many a person edited (and
    did not dislike), liked, disliked, and said nothing of; `last` is whether the chat ends with
    one of these."""

    edited: int
    liked: int
    disliked: int
    unrated: int
    last: bool


@dataclass(frozen=True, slots=True)
class ChatOutline:
    """A chat, and what became of its replies: the `tally` where that is enough to know, else
    its `messages` in the order they were made. Of a private one, and of one that is `hidden`
    (deleted, and perhaps to be brought back), neither. The rest is as in `Chat`."""

    id: str
    title: str
    updated_at: float
    private: bool
    hidden: bool
    origin: str | None
    leaf_id: str | None
    tally: Tally | None
    messages: Sequence[MessageOutline]


def outlines(connection: sqlite3.Connection, sieve: Sieve) -> list[ChatOutline]:
    """The chats that the sieve lets through, those used last first."""
    found = search.chats_with(connection, sieve.search) if sieve.search.strip() else None
    chats = [
        row for row in _bare(connection).execute(*_chats(sieve)) if found is None or row[0] in found
    ]
    open_ids = [row[0] for row in chats if not (row[_PRIVATE] or row[_HIDDEN])]
    tallies = _tallies(connection, open_ids)
    messages = _messages(connection, [id for id in open_ids if id not in tallies])
    return [
        ChatOutline(
            id,
            title,
            updated_at,
            bool(private),
            bool(hidden),
            origin,
            leaf_id,
            None if private or hidden else tallies.get(id),
            messages.get(id, ()),
        )
        for id, title, updated_at, private, hidden, origin, leaf_id in chats
    ]


def _bare(connection: sqlite3.Connection) -> sqlite3.Cursor:
    """Gives bare tuples, of which there may be a hundred thousand."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor


_PRIVATE, _HIDDEN = 3, 4  # columns of the query below


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


_FEW = 200  # chats, for which looking each up is less than reading the whole index

# SQLite gives `last` of the row that has the highest seq.
_TALLIES = """
    SELECT chat_id,
        sum(role = 'assistant' AND finish_reason IS NOT 'stop'),
        sum(role = 'assistant' AND edited AND rating IS NOT -1),
        sum(role = 'assistant' AND NOT edited AND rating IS 1),
        sum(role = 'assistant' AND rating IS -1),
        sum(role = 'assistant' AND NOT edited AND rating IS NULL),
        role = 'assistant' AND NOT edited AND rating IS NULL AS last, max(seq)
    FROM messages INDEXED BY messages_shape {where} GROUP BY chat_id
"""
_VERSIONS = """
    SELECT chat_id FROM messages INDEXED BY messages_shape {where}
    GROUP BY chat_id, parent_id HAVING count(*) > 1
"""


def _tallies(connection: sqlite3.Connection, chat_ids: Sequence[str]) -> dict[str, Tally]:
    """The tally of each of these chats for which it is enough: all replies are whole, and there
    are no versions."""
    branched = {id for (id,) in _of_chats(connection, _VERSIONS, chat_ids)}
    return {
        id: Tally(edited, liked, disliked, unrated, bool(last))
        for id, cut, edited, liked, disliked, unrated, last, _ in _of_chats(
            connection, _TALLIES, chat_ids
        )
        if not cut and id not in branched
    }


_MESSAGES = """
    SELECT chat_id, id, parent_id, role, finish_reason, rating, edited
    FROM messages INDEXED BY messages_shape {where} ORDER BY chat_id, seq
"""


def _messages(
    connection: sqlite3.Connection, chat_ids: Sequence[str]
) -> dict[str, list[MessageOutline]]:
    """The messages of each of these chats."""
    outcomes = votes.outcomes(connection)
    rows = _of_chats(connection, _MESSAGES, chat_ids)
    return {
        chat_id: [MessageOutline._make((*row[1:], outcomes.get(row[1]))) for row in group]
        for chat_id, group in groupby(rows, key=itemgetter(0))
    }


def _of_chats(
    connection: sqlite3.Connection, sql: str, chat_ids: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """The rows that begin with the ids of these chats. `sql` has a place for `{where}`."""
    cursor = _bare(connection)
    if len(chat_ids) <= _FEW:
        for chat_id in chat_ids:
            yield from cursor.execute(sql.format(where="WHERE chat_id = ?"), (chat_id,))
        return
    wanted = frozenset(chat_ids)
    yield from (row for row in cursor.execute(sql.format(where="")) if row[0] in wanted)
