"""A folder's words in memory, for SQLite's full-text search: the best passages for a question.

Nothing of it is on disk, and it is gone with the program.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchat_local.app.chats.segment import fold, pairs, runs, tokens
from openchat_local.app.documents.document import Unreadable
from openchat_local.app.documents.extraction import Cancelled, extract
from openchat_local.app.documents.folder import (
    LARGEST_DOCUMENT,
    LARGEST_TEXT_FILE,
    File,
    Listing,
    walk,
)
from openchat_local.app.documents.kinds import is_picture, kind_of
from openchat_local.app.documents.passages import Passage, of_document, of_text

DOCUMENT_SECONDS = 10.0
ALL_SECONDS = 60.0
"""How long one document, and all files of a folder, may take to be read the first time."""
MOST_TEXT = 60_000_000
"""Bytes of a folder's text that are searched: some three of memory for each."""
WORTH = 0.3
"""The least that a passage may be worth beside the best one: what is below shares a common word
with the question."""
LONGEST_QUESTION = 10_000  # characters
MOST_WORDS = 200
"""A prompt may be a text that was pasted: its first words are searched for."""
_LOOKED_AT = 200

# What questions are made of, and what nothing is about. Other languages' are left to bm25, which
# weighs a word less the more passages have it.
_SAID_ANYWAY = """
    a about all an and any are as at be been but by can could did do does for from give has have how
    i if in into is it its list me my no not of on or our please say says should show sum summarise
    summarize tell than that the their them there these they this those to up us was we were what
    when where which who whom whose why will with would you your
"""
_FUNCTION_WORDS = frozenset(_SAID_ANYWAY.split())


@dataclass(frozen=True, slots=True)
class Hit:
    """A file with those of its passages that were found, the best of them first."""

    file: File
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Best:
    """What of a folder suits a question. `whole` says that it is all there is."""

    hits: tuple[Hit, ...]
    files: int
    whole: bool
    left_out: tuple[tuple[str, int], ...]


class FolderIndex:
    """One folder, or one file. For any thread; one at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._is_read = False
        self._listing = Listing(())
        self._left_out: Counter[str] = Counter()
        self._stamps: dict[str, tuple[int, int]] = {}
        self._reasons: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._rows = sqlite3.connect(":memory:", check_same_thread=False)
        self._rows.executescript(
            "CREATE TABLE passages (id INTEGER PRIMARY KEY, name TEXT, number INTEGER, unit TEXT,"
            " first INTEGER, last INTEGER, text TEXT, label TEXT);"
            "CREATE INDEX by_name ON passages (name);"
            # `tokens` has done the segmenting, as for the search in chats; "seals" finds "seal".
            "CREATE VIRTUAL TABLE words USING fts5 (path, body, tokenize = 'porter ascii');"
        )

    def refresh(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Read what is new or has changed. Raises Unreadable, and Cancelled, which keeps what was
        read till then."""
        with self._lock:
            listing = walk(self._folder, wanted)
            if not wanted():
                raise Cancelled  # what it had no time to see is not gone
            names = {file.name for file in listing.files}
            for name in [name for name in self._stamps if name not in names]:
                self._forget(name)
            end = time.monotonic() + ALL_SECONDS
            for file in listing.files:
                if not wanted():
                    raise Cancelled
                if self._stamps.get(file.name) != file.stamp:
                    self._forget(file.name)
                    self._learn(file, end, wanted)
            self._listing = listing
            self._left_out = Counter(dict(listing.left_out))
            self._left_out.update(self._reasons.values())
            self._is_read = True

    def _forget(self, name: str) -> None:
        self._rows.execute(
            "DELETE FROM words WHERE rowid IN (SELECT id FROM passages WHERE name = ?)", (name,)
        )
        self._rows.execute("DELETE FROM passages WHERE name = ?", (name,))
        for held in (self._stamps, self._reasons, self._sizes):
            held.pop(name, None)

    def _learn(self, file: File, end: float, wanted: Callable[[], bool]) -> None:
        if time.monotonic() > end or sum(self._sizes.values()) > MOST_TEXT:
            self._reasons[file.name] = "not read: the folder is too large"
            return  # without a stamp: the next time it may be
        try:
            passages = list(_passages(file, min(DOCUMENT_SECONDS, end - time.monotonic()), wanted))
        except (Unreadable, OSError):
            passages = []
            self._reasons[file.name] = "unreadable"
        except _NoText as reason:
            passages = []
            self._reasons[file.name] = str(reason)
        self._stamps[file.name] = file.stamp
        self._sizes[file.name] = sum(len(passage.text.encode()) for passage in passages)
        path = " ".join(tokens(file.name))
        for each in passages:
            cursor = self._rows.execute(
                "INSERT INTO passages (name, number, unit, first, last, text, label)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (file.name, each.number, each.unit, each.first, each.last, each.text, each.label),
            )
            self._rows.execute(
                "INSERT INTO words (rowid, path, body) VALUES (?, ?, ?)",
                (cursor.lastrowid, path, " ".join(tokens(each.text))),
            )

    def best(self, question: str, room: int, *, wait: bool = True) -> Best | None:
        """What suits a question, up to `room` bytes of UTF-8; all of the folder where that is room
        enough, and else the passages that share most words with it. None where it was not read
        yet or, unless this is to `wait` for that, is being read."""
        if not self._lock.acquire(blocking=wait):
            return None
        try:
            return self._best(question, room) if self._is_read else None
        finally:
            self._lock.release()

    def _best(self, question: str, room: int) -> Best:
        files = {file.name: file for file in self._listing.files if self._sizes.get(file.name)}
        left_out = tuple(self._left_out.items())
        if 0 < sum(self._sizes[name] for name in files) <= room:
            rows = self._rows.execute(f"SELECT {_COLUMNS} FROM passages p ORDER BY name, number")
            return Best(_hits(rows, files, room), len(files), True, left_out)
        expression = _expression(question)
        if not expression:
            return Best((), len(files), False, left_out)
        # bm25 is the better the more it is below 0; a word in the path says thrice as much.
        rows = self._rows.execute(
            f"SELECT {_COLUMNS}, bm25(words, 3.0, 1.0) AS rank FROM words"
            " JOIN passages p ON p.id = words.rowid WHERE words MATCH ?"
            " ORDER BY rank, p.id LIMIT ?",
            (expression, _LOOKED_AT),
        )
        return Best(_hits(_worth(rows), files, room), len(files), False, left_out)


_COLUMNS = "p.name, p.number, p.unit, p.first, p.last, p.text, p.label"


def _worth(rows: Iterable[Sequence[object]]) -> Iterator[Sequence[object]]:
    best = 0.0
    for *row, rank in rows:
        value = float(str(rank))
        best = best or value
        if value > best * WORTH:
            return
        yield row


def _hits(rows: Iterable[Sequence[object]], files: dict[str, File], room: int) -> tuple[Hit, ...]:
    """Rows, the best first, as files, as far as there is room."""
    found: dict[str, list[Passage]] = {}
    for name, number, unit, first, last, text, label in rows:
        room -= len(str(text).encode())
        if room < 0:
            break
        passage = Passage(
            int(str(number)), str(unit), int(str(first)), int(str(last)), str(text), str(label)
        )
        if str(name) in files:
            found.setdefault(str(name), []).append(passage)
    return tuple(Hit(files[name], tuple(passages)) for name, passages in found.items())


def _expression(question: str) -> str:
    """Any of the question's words, in FTS5's language; "" where there is none."""
    words: dict[str, None] = {}
    for run in runs(question[:LONGEST_QUESTION]):
        if len(words) > MOST_WORDS:
            break
        folded = fold(run.text)
        if run.kind == "unspaced":
            words |= dict.fromkeys(pairs(folded) or [folded])
        elif folded not in _FUNCTION_WORDS:
            words |= dict.fromkeys(tokens(run.text))
    quoted = (word.replace('"', '""') for word in words if word)
    return " OR ".join(f'"{word}"' for word in quoted)


class _NoText(Exception):
    """Why a file is not searched."""


def _passages(file: File, seconds: float, wanted: Callable[[], bool]) -> Iterator[Passage]:
    """A file as passages. Raises _NoText, Unreadable, OSError."""
    with file.path.open("rb") as opened:
        kind = kind_of(opened, file.path.suffix)
        if kind is not None:
            if file.size > LARGEST_DOCUMENT:
                raise _NoText("too large")
            yield from of_document(extract(opened, kind, seconds=seconds, wanted=wanted))
            return
        opened.seek(0)
        data = opened.read(LARGEST_TEXT_FILE + 1)
    if is_picture(data):
        raise _NoText("pictures")
    if len(data) > LARGEST_TEXT_FILE:
        raise _NoText("too large")
    if b"\0" in data:
        raise _NoText("no text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _NoText("no text") from None
    yield from of_text(text.replace("\r\n", "\n"))
