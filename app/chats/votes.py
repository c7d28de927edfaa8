"""Pairs of replies that were written to be compared blind, and what was said of them.

A pair has its row before the first word of either reply, so that whoever dies meanwhile nobody
can learn from the chat which of them wrote what before the vote. Rows hold no texts: those are
the messages'. Every function works on an open transaction.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from openchat_local.app.chats import tree
from openchat_local.app.chats.errors import ChatStoreError
from openchat_local.app.chats.ids import new_id
from openchat_local.app.chats.records import Outcome

Choice = Literal["first", "second", "tie", "bad", "skip"]
"""The one on the left or above, the other one, both alike, both bad, no vote."""


class AlreadyVoted(ChatStoreError):
    """Somebody has voted on the pair before."""


@dataclass(frozen=True, slots=True)
class Side:
    """Who wrote one reply of a pair. `label` is what the user calls it; the digests say which
    bytes these are, so that an adapter that was trained anew under its name is another one
    ("" and None where they are not known). `condition` is the one in force, "" for none."""

    label: str
    model: str
    adapter: str | None = None
    scale: float = 1.0
    condition: str = ""
    model_digest: str = ""
    adapter_digest: str | None = None

    @property
    def version(self) -> tuple[object, ...]:
        """All that tells it from every other, whatever either is called."""
        return (
            self.model_digest or self.model,
            self.adapter_digest or self.adapter,
            self.scale if self.adapter else 1.0,
            self.condition,
        )


@dataclass(frozen=True, slots=True)
class Vote:
    """A pair, in the order in which it was shown. `choice` is None before the vote, and `at`,
    seconds since the epoch, is then when the pair was begun."""

    id: str
    at: float
    chat_id: str
    prompt_id: str
    first: Side
    second: Side
    first_reply_id: str
    second_reply_id: str
    choice: Choice | None

    @property
    def shown(self) -> str:
        """The reply that the chat goes on with."""
        return self.second_reply_id if self.choice == "second" else self.first_reply_id


def insert(
    connection: sqlite3.Connection,
    chat_id: str,
    prompt_id: str,
    sides: tuple[Side, Side],
    reply_ids: tuple[str, str],
    choice: Choice | None,
) -> Vote:
    """A pair of replies that there are. Raises ChatNotFound, MessageNotFound."""
    tree.chat_title(connection, chat_id)
    for message_id in (prompt_id, *reply_ids):
        tree.require_message(connection, chat_id, message_id)
    first, second = (json.dumps(asdict(side), ensure_ascii=False) for side in sides)
    vote_id = new_id()
    connection.execute(
        "INSERT INTO votes (id, at, chat_id, prompt_id, first, second, first_reply_id,"
        " second_reply_id, choice) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (vote_id, time.time(), chat_id, prompt_id, first, second, *reply_ids, choice),
    )
    return vote(connection, vote_id)


def cast(connection: sqlite3.Connection, vote_id: str, choice: Choice) -> Vote:
    """Say what is thought of a pair. Raises AlreadyVoted, ChatStoreError."""
    now = vote(connection, vote_id)
    if now.choice is not None:
        raise AlreadyVoted("This pair was voted on already, perhaps in another window.")
    sql = "UPDATE votes SET choice = ?, at = ? WHERE id = ?"
    connection.execute(sql, (choice, time.time(), vote_id))
    return vote(connection, vote_id)


def drop(connection: sqlite3.Connection, vote_id: str) -> None:
    """Forget a pair that nobody can vote on: its replies are two as any others."""
    connection.execute("DELETE FROM votes WHERE id = ? AND choice IS NULL", (vote_id,))


def drop_interrupted(connection: sqlite3.Connection) -> None:
    """Forget the pairs whose replies broke off with the program: how far either had got by then
    tells which one was slower."""
    connection.execute(
        """
        DELETE FROM votes WHERE choice IS NULL AND EXISTS (
            SELECT 1 FROM messages WHERE id IN (first_reply_id, second_reply_id)
            AND finish_reason = 'interrupted')
        """
    )


def vote(connection: sqlite3.Connection, vote_id: str) -> Vote:
    """Raises ChatStoreError."""
    found = _votes(connection, "v.id = ?", vote_id)
    if not found:
        raise ChatStoreError("This pair is gone; its chat may have been deleted elsewhere.")
    return found[0]


def of_reply(connection: sqlite3.Connection, message_id: str) -> Vote | None:
    """The pair that a reply belongs to, if it does to any."""
    sql = "v.first_reply_id = ?1 OR v.second_reply_id = ?1"
    return next(iter(_votes(connection, sql, message_id)), None)


def cast_votes(connection: sqlite3.Connection) -> list[Vote]:
    """All that were cast in chats that are there, in their order."""
    return _votes(connection, "v.choice IS NOT NULL")


def outcomes(connection: sqlite3.Connection) -> dict[str, Outcome]:
    """What the vote on its pair made of each reply that belongs to one, by its id."""
    found: dict[str, Outcome] = {}
    sql = "SELECT first_reply_id, second_reply_id, choice FROM votes"
    for first, second, choice in connection.execute(sql):
        match choice:
            case "first":
                found |= {first: "chosen", second: "other"}
            case "second":
                found |= {first: "other", second: "chosen"}
            case _:
                found[first] = found[second] = choice or "unvoted"
    return found


def _votes(connection: sqlite3.Connection, where: str, *parameters: object) -> list[Vote]:
    sql = f"""
        SELECT v.id, v.at, v.chat_id, v.prompt_id, v.first, v.second, v.first_reply_id,
            v.second_reply_id, v.choice
        FROM votes v JOIN chats c ON c.id = v.chat_id
        WHERE ({where}) AND c.hidden_by IS NULL ORDER BY v.at, v.seq
    """
    return [_read(row) for row in connection.execute(sql, parameters)]


def _read(row: sqlite3.Row) -> Vote:
    sides = {name: Side(**_fields(row[name])) for name in ("first", "second")}
    return Vote(**dict(row) | sides)


def _fields(text: str) -> Mapping[str, Any]:
    fields: dict[str, Any] = json.loads(text)
    return fields
