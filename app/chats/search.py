"""Search: what a person types → an FTS5 expression, and excerpts of what it found."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import NamedTuple

from openchat_local.app.chats.records import SearchHit
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
    word, unspaced script anywhere. Nothing in a query is syntax.
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
    """Titles that match, then messages, each newest first, `limit` in all."""
    query = Query.parse(text)
    if not query.terms:
        return []
    parameters = {"query": query.expression(), "private": include_private, "limit": limit}
    rows = connection.execute(_TITLES, parameters).fetchall()
    parameters["limit"] = limit - len(rows)
    rows += connection.execute(_MESSAGES, parameters).fetchall()
    return [_hit(row, query) for row in rows]


# CROSS JOIN keeps the index in the outer loop, which then ends after `limit` rows.
_TITLES = """
    SELECT c.id, c.title, c.private, NULL AS message_id, NULL AS role, c.created_at, c.title AS text
    FROM search_index s CROSS JOIN chats c ON c.seq = -s.rowid
    WHERE s.words MATCH :query AND s.rowid < 0 AND (:private OR NOT c.private)
    AND c.hidden_by IS NULL
    ORDER BY s.rowid LIMIT :limit
"""
_MESSAGES = """
    SELECT c.id, c.title, c.private, m.id AS message_id, m.role, m.created_at, m.content AS text
    FROM search_index s
    CROSS JOIN messages m ON m.seq = s.rowid CROSS JOIN chats c ON c.id = m.chat_id
    WHERE s.words MATCH :query AND s.rowid > 0 AND (:private OR NOT c.private)
    AND c.hidden_by IS NULL
    ORDER BY s.rowid DESC LIMIT :limit
"""


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
