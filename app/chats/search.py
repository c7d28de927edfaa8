"""Search: what a person types → an FTS5 expression, and excerpts of what it found."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import NamedTuple

from openchat_local.app.chats.records import CHAT_COLUMNS, Chat, SearchHit, read_chat
from openchat_local.app.chats.segment import LONGEST_WORD, Run, case_parts, fold, pairs, runs

EXCERPT = 160  # characters
LEAD = 40  # characters of it before the first match


class Term(NamedTuple):
    """One thing to look for: its kind of run, its folded text, its camelCase parts."""

    kind: str
    text: str
    parts: list[str]


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for. A text matches if it has every term: words as the beginning of a
    word, unspaced script anywhere. Nothing in it is syntax.
    """

    terms: tuple[Term, ...]

    @classmethod
    def parse(cls, text: str) -> Query:
        terms = []
        for run in runs(text):
            folded = fold(run.text)
            if run.kind == "word":
                terms.append(Term(run.kind, folded[:LONGEST_WORD], case_parts(run.text)))
            else:
                terms.append(Term(run.kind, folded, []))
        return cls(tuple(term for term in terms if term.text))

    def expression(self) -> str:
        """The query in FTS5's language; empty if there is nothing to look for."""
        return " AND ".join(_expression(term) for term in self.terms)

    def matches(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the terms are in `text`: (start, end), by start, without overlap."""
        end = 0
        for run in runs(text):
            folded = fold(run.text)
            found = [span for term in self.terms for span in _places(term, run, folded)]
            for start, stop in sorted(found):
                if stop > end:
                    yield max(start, end), stop
                    end = stop


def search(
    connection: sqlite3.Connection, text: str, *, limit: int, include_private: bool
) -> list[SearchHit]:
    """Titles that match, then messages, each newest first, `limit` in all.

    A word "#work" asks for a chat with a tag that begins so, if there is any such tag, and
    is a word like others if there is none. Tags alone give the chats that have them, as the
    list of chats has them.
    """
    words, tags = _without_tags(connection, text)
    query = Query.parse(words)
    parameters: dict[str, object] = {"private": include_private, "limit": limit}
    tagged = _tagged(tags, parameters)
    if not query.terms:
        if not tags:
            return []
        chats = connection.execute(_CHATS.format(tagged=tagged), parameters)
        return [chat_hit(read_chat(row)) for row in chats]
    parameters["query"] = query.expression()
    rows = connection.execute(_TITLES.format(tagged=tagged), parameters).fetchall()
    parameters["limit"] = limit - len(rows)
    rows += connection.execute(_MESSAGES.format(tagged=tagged), parameters).fetchall()
    return [_hit(row, query) for row in rows]


def chats_with(connection: sqlite3.Connection, text: str) -> set[str]:
    """The ids of all chats that `search` would find something in, hidden and private ones too:
    the words in the title, or in one message."""
    words, tags = _without_tags(connection, text)
    query = Query.parse(words)
    if not query.terms and not tags:
        return set()
    parameters: dict[str, object] = {}
    tagged = _tagged(tags, parameters)
    if not query.terms:
        sql = f"SELECT c.id FROM chats c WHERE true {tagged}"
        return {row["id"] for row in connection.execute(sql, parameters)}
    parameters["query"] = query.expression()
    return {
        row["id"]
        for sql in (_IN_TITLES, _IN_MESSAGES)
        for row in connection.execute(sql.format(tagged=tagged), parameters)
    }


_IN_TITLES = """
    SELECT c.id FROM search_index s CROSS JOIN chats c ON c.seq = -s.rowid
    WHERE s.words MATCH :query AND s.rowid < 0 {tagged}
"""
_IN_MESSAGES = """
    SELECT DISTINCT m.chat_id AS id FROM search_index s
    CROSS JOIN messages m ON m.seq = s.rowid CROSS JOIN chats c ON c.id = m.chat_id
    WHERE s.words MATCH :query AND s.rowid > 0 {tagged}
"""

# CROSS JOIN keeps the index in the outer loop, which then ends after `limit` rows.
_TITLES = """
    SELECT c.id, c.title, c.private, NULL AS message_id, NULL AS role, c.created_at, c.title AS text
    FROM search_index s CROSS JOIN chats c ON c.seq = -s.rowid
    WHERE s.words MATCH :query AND s.rowid < 0 AND (:private OR NOT c.private)
    AND c.hidden_by IS NULL {tagged}
    ORDER BY s.rowid LIMIT :limit
"""
_MESSAGES = """
    SELECT c.id, c.title, c.private, m.id AS message_id, m.role, m.created_at, m.content AS text
    FROM search_index s
    CROSS JOIN messages m ON m.seq = s.rowid CROSS JOIN chats c ON c.id = m.chat_id
    WHERE s.words MATCH :query AND s.rowid > 0 AND (:private OR NOT c.private)
    AND c.hidden_by IS NULL {tagged}
    ORDER BY s.rowid DESC LIMIT :limit
"""
_CHATS = f"""
    SELECT {CHAT_COLUMNS} FROM chats c
    WHERE (:private OR NOT c.private) AND c.hidden_by IS NULL {{tagged}}
    ORDER BY c.pinned DESC, c.updated_at DESC, c.seq DESC LIMIT :limit
"""


def _without_tags(connection: sqlite3.Connection, text: str) -> tuple[str, list[list[str]]]:
    """The query without its tags, and for each of these the tags that begin so."""
    words = text.split()
    if not any(word.startswith("#") for word in words):
        return text, []
    known = [tag for (tag,) in connection.execute("SELECT DISTINCT tag FROM chat_tags")]
    rest, meant = [], []
    for word in words:
        beginning = word[1:].casefold() if word.startswith("#") else ""
        found = [tag for tag in known if beginning and tag.casefold().startswith(beginning)]
        if found:
            meant.append(found)
        else:
            rest.append(word)
    return " ".join(rest), meant


def _tagged(tags: Sequence[Sequence[str]], parameters: dict[str, object]) -> str:
    """The condition that a chat has one of each of these tags; its values go to `parameters`."""
    conditions = []
    for each in tags:
        names = []
        for tag in each:
            names.append(f":tag{len(parameters)}")
            parameters[names[-1][1:]] = tag
        listed = ", ".join(names)
        conditions.append(f"AND c.id IN (SELECT chat_id FROM chat_tags WHERE tag IN ({listed}))")
    return " ".join(conditions)


def chat_hit(chat: Chat) -> SearchHit:
    """A chat as something that was found for its title or its tags."""
    tags = " ".join(f"#{tag}" for tag in chat.tags)
    title = chat.title or chat.draft[:80] or "New chat"
    return SearchHit(chat.id, title, chat.private, None, None, chat.updated_at, tags, matches=())


def _expression(term: Term) -> str:
    match term.kind:
        case "unspaced" if len(term.text) > 1:
            return _phrase(pairs(term.text))
        case "symbol":
            return _phrase([term.text])
    beginning = f"{_phrase([term.text])} *"
    # "JsonFile" is to find parseJsonFile, and "iPhone" also the iphone of a lazy typist.
    return f"({beginning} OR {_phrase(term.parts)} *)" if term.parts else beginning


def _phrase(tokens: list[str]) -> str:
    quoted = (token.replace('"', '""') for token in tokens)
    return " + ".join(f'"{token}"' for token in quoted)


def _places(term: Term, run: Run, folded: str) -> Iterator[tuple[int, int]]:
    if (term.kind == "unspaced") != (run.kind == "unspaced") or term.text not in folded:
        return
    starts = [0]
    if run.kind == "unspaced":
        starts = [match.start() for match in re.finditer(f"(?={re.escape(term.text)})", folded)]
    elif parts := case_parts(run.text):
        starts = list(accumulate(map(len, parts[:-1]), initial=0))
    origins = _origins(run.text, folded)
    for start in starts:
        if folded.startswith(term.text, start):
            last, *rest = origins[start + len(term.text) - 1 :]
            # Up to the next character that counts: accents and "¼" are not cut in two.
            stop = next(origin for origin in rest if origin > last)
            yield run.start + origins[start], run.start + stop


def _origins(text: str, folded: str) -> list[int]:
    """For each character of the folded text, and for its end, the place in `text`."""
    if len(folded) == len(text):
        return list(range(len(text) + 1))
    pieces = [fold(character) for character in text]
    origins = [i for i, piece in enumerate(pieces) for _ in piece] + [len(text)]
    if len(origins) != len(folded) + 1:  # characters that fold only together, such as ｶﾞ
        origins = [0] * len(folded) + [len(text)]
    return origins


def _hit(row: sqlite3.Row, query: Query) -> SearchHit:
    snippet, matches = excerpt(row["text"], query)
    return SearchHit(
        chat_id=row["id"],
        title=row["title"],
        private=bool(row["private"]),
        message_id=row["message_id"],
        role=row["role"],
        created_at=row["created_at"],
        snippet=snippet,
        matches=matches,
    )


def excerpt(text: str, query: Query) -> tuple[str, tuple[tuple[int, int], ...]]:
    """One line around the first match, and the ranges of the matches in it."""
    found = query.matches(text)
    first = next(found, (0, 0))
    begin = max(0, first[0] - LEAD)
    end = min(len(text), begin + EXCERPT)
    shown = [first, *takewhile(lambda span: span[0] < end, found)] if first[1] else []
    before, after = "…" if begin else "", "…" if end < len(text) else ""
    line = re.sub(r"\s", " ", text[begin:end])  # one for one: the ranges stay right
    shift = len(before) - begin
    ranges = tuple((start + shift, min(stop, end) + shift) for start, stop in shown)
    return before + line + after, ranges
