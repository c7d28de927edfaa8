"""Texts cut into passages, of which a search finds the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openchat_local.app.documents.document import Document

LENGTH = 1200
"""Characters, some 300 tokens: a screenful, or a few paragraphs."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a file, the `number`-th from 0. `unit` is what `first` and `last` count:
    "line", "page", …; `label` is what the page calls itself, "" for lines."""

    number: int
    unit: str
    first: int
    last: int
    text: str
    label: str = ""


def of_text(text: str) -> Iterator[Passage]:
    """A text file, cut between its lines; a line longer than a passage is cut within."""
    for number, (first, last, piece) in enumerate(_cut(text)):
        yield Passage(number, "line", first, last, piece)


def of_document(document: Document) -> Iterator[Passage]:
    """A document, cut where its pages end and within them; lines where it has no pages."""
    if not document.unit:
        yield from of_text(document.text())
        return
    number = 0
    for page, each in enumerate(document.pages, 1):
        for _, _, piece in _cut(each.text):
            yield Passage(number, document.unit, page, page, piece, each.label)
            number += 1


def _cut(text: str) -> Iterator[tuple[int, int, str]]:
    """The first line, the last line and the text of each piece that has any."""
    held: list[str] = []
    size, first = 0, 1
    for number, line in enumerate(text.split("\n"), 1):
        # A paragraph's end is a better place than the middle of the next one.
        if held and (size + len(line) > LENGTH or (size > LENGTH * 0.6 and not line.strip())):
            yield from _piece(first, held)
            held, size, first = [], 0, number
        if len(line) > LENGTH:
            for start in range(0, len(line), LENGTH):
                yield number, number, line[start : start + LENGTH]
            first = number + 1
            continue
        held.append(line)
        size += len(line) + 1
    yield from _piece(first, held)


def _piece(first: int, lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """The lines without the empty ones around them; nothing where none is left."""
    full = [number for number, line in enumerate(lines) if line.strip()]
    if full:
        start, end = full[0], full[-1]
        yield first + start, first + end, "\n".join(lines[start : end + 1])


def joined(passages: Sequence[Passage]) -> tuple[str, str]:
    """Where passages of one file are ("lines 3-40 and 80-99"), and their text, in their order."""
    runs: list[list[Passage]] = []
    for passage in sorted(passages, key=lambda each: each.number):
        if runs and passage.number == runs[-1][-1].number + 1:
            runs[-1].append(passage)
        else:
            runs.append([passage])
    texts = ("\n".join(each.text.strip("\n") for each in run) for run in runs)
    places: list[str] = []
    for run in runs:
        first, last = run[0], run[-1]
        named = first.label or str(first.first), last.label or str(last.last)
        place = named[0] if named[0] == named[1] else "-".join(named)
        if place not in places:
            places.append(place)
    unit = passages[0].unit + "s" * (len(places) > 1 or "-" in places[0])
    *most, end = places
    return f"{unit} {', '.join(most) + ' and ' if most else ''}{end}", "\n[…]\n".join(texts)
