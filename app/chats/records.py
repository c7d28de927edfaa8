"""What the chat store hands out: frozen records, read from rows in one place."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any, Literal, get_args

from openchat_local.models.conversation import Role, SampledIds

ReplyEnd = Literal["stop", "length", "cancelled", "engine died", "refused", "interrupted"]
REPLY_ENDS: tuple[ReplyEnd, ...] = get_args(ReplyEnd)

Outcome = Literal["unvoted", "chosen", "other", "tie", "bad", "skip"]
"""What came of a reply in a blind comparison: the one that was preferred, or the other one."""

SHORT_ID = 8


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation with all its branches. Times are seconds since the epoch.

    `leaf_id` is the last message of the branch that is shown; None in an empty chat.
    `message_count` is that of this branch.
    A private chat is kept out of everything but the local history and its search.
    `origin` is the program that an imported chat comes from, None for one written here.
    """

    id: str
    title: str
    created_at: float
    updated_at: float
    model: str | None
    template: str | None
    adapter: str | None
    condition: str | None
    system_prompt: str
    sampling: dict[str, Any] | None
    private: bool
    pinned: bool
    draft: str
    leaf_id: str | None
    tags: tuple[str, ...]
    message_count: int
    origin: str | None = None

    @property
    def short_id(self) -> str:
        """The random end of the id: what a person types to name the chat."""
        return self.id[-SHORT_ID:]


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of the tree. Only replies have an end, an engine and its figures.

    `finish_reason` says how a reply ended: "stop", "length", "cancelled", "engine died",
    "refused" (the engine would not take the prompt), or "interrupted" (the whole program
    died). It is None for a reply that is being
    written, and for system and user messages. `instance` names the running program
    that writes the reply, and is None at all other times. `edited` marks a reply that a
    person wrote or changed. `rating` is 1 (good), -1 (bad) or None, and `rating_reason` a
    sentence of why, where there is one.

    `sampled` are the token ids that the model wrote the reply as, where they are known.

    `vote` is None of a reply that was in no blind comparison. Before the vote ("unvoted") no
    face of the program may tell who wrote it.

    `sibling` is its number, from 1, among the `siblings` messages that answer the same one,
    itself included, as they were when it was read.
    """

    id: str
    chat_id: str
    parent_id: str | None
    role: Role
    content: str
    created_at: float
    finish_reason: str | None
    model: str | None
    adapter: str | None
    condition: str | None
    template: str | None
    sampling: dict[str, Any] | None
    usage: dict[str, Any] | None
    rating: int | None
    edited: bool
    instance: str | None
    sampled: SampledIds | None = None
    vote: Outcome | None = None
    sibling: int = 1
    siblings: int = 1
    rating_reason: str | None = None

    @property
    def writing(self) -> bool:
        """Whether the reply is still being written, here or in another window."""
        return self.instance is not None


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A message that matches, or a chat whose title does (`message_id` None).

    `snippet` is an excerpt of the text as it was written; `matches` are the
    (start, end) ranges in it, in characters, that the query found.
    """

    chat_id: str
    title: str
    private: bool
    message_id: str | None
    role: Role | None
    created_at: float
    snippet: str
    matches: tuple[tuple[int, int], ...]


TAG_SEPARATOR = "\x1f"  # ASCII's unit separator, which no tag may contain

# Versions that are not shown do not count. A branch is only walked where there are any: that
# takes a look-up for each message, and the list has a thousand chats.
CHAT_COLUMNS = f"""
    c.id, c.title, c.created_at, c.updated_at, c.model, c.template, c.adapter, c.condition,
    c.system_prompt, c.sampling, c.private, c.pinned, c.draft, c.leaf_id, c.origin,
    (SELECT group_concat(tag, '{TAG_SEPARATOR}') FROM
        (SELECT tag FROM chat_tags WHERE chat_id = c.id ORDER BY tag)) AS tags,
    CASE WHEN EXISTS (SELECT 1 FROM messages WHERE chat_id = c.id
            GROUP BY parent_id HAVING count(*) > 1)
        THEN (WITH RECURSIVE path (above) AS (
                SELECT parent_id FROM messages WHERE id = c.leaf_id
                UNION ALL SELECT up.parent_id FROM path JOIN messages up ON up.id = path.above)
            SELECT count(*) FROM path)
        ELSE (SELECT count(*) FROM messages WHERE chat_id = c.id) END AS message_count
"""

MESSAGE_COLUMNS = """
    m.id, m.chat_id, m.parent_id, m.role, m.content, m.created_at, m.finish_reason, m.model,
    m.adapter, m.condition, m.template, m.sampling, m.usage, m.rating, m.edited, m.instance,
    m.token_ids, m.vocabulary, m.rating_reason,
    (SELECT CASE
            WHEN v.choice IS NULL THEN 'unvoted'
            WHEN v.choice NOT IN ('first', 'second') THEN v.choice
            WHEN (v.choice = 'first') = (v.first_reply_id = m.id) THEN 'chosen'
            ELSE 'other' END
        FROM votes v WHERE v.first_reply_id = m.id OR v.second_reply_id = m.id) AS vote,
    (SELECT count(*) FROM messages s
        WHERE s.chat_id = m.chat_id AND s.parent_id IS m.parent_id AND s.seq <= m.seq) AS sibling,
    (SELECT count(*) FROM messages s
        WHERE s.chat_id = m.chat_id AND s.parent_id IS m.parent_id) AS siblings
"""


def read_chat(row: sqlite3.Row) -> Chat:
    """A Chat from a row of CHAT_COLUMNS."""
    fields = dict(row)
    tags = fields.pop("tags")
    return Chat(
        **fields
        | {
            "sampling": from_json(row["sampling"]),
            "private": bool(row["private"]),
            "pinned": bool(row["pinned"]),
            "tags": tuple(tags.split(TAG_SEPARATOR)) if tags else (),
        }
    )


def read_message(row: sqlite3.Row) -> StoredMessage:
    """A StoredMessage from a row of MESSAGE_COLUMNS."""
    fields = dict(row)
    packed, vocabulary = fields.pop("token_ids"), fields.pop("vocabulary")
    return StoredMessage(
        **fields
        | {
            "sampled": None if packed is None else SampledIds(packed, vocabulary),
            "sampling": from_json(row["sampling"]),
            "usage": from_json(row["usage"]),
            "edited": bool(row["edited"]),
        }
    )


def to_json(value: dict[str, Any] | None) -> str | None:
    """How settings and figures lie in the database."""
    return None if value is None else json.dumps(value, ensure_ascii=False)


def from_json(text: str | None) -> dict[str, Any] | None:
    value: dict[str, Any] | None = None if text is None else json.loads(text)
    return value
