"""The text of a Word document (.docx), in the order of its paragraphs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from openchat_local.app.documents.document import Page
from openchat_local.app.documents.markup import End, Event, Start
from openchat_local.app.documents.packed import Packed

MAIN = "word/document.xml"
_NOTES = ("word/footnotes.xml", "word/endnotes.xml")
_BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_SKIPPED = frozenset({"Fallback", "del", "moveFrom", "tabs"})
"""What stands there a second time for older programs, what changes took out, and the places of
tab stops."""


def read(packed: Packed) -> Iterator[Page]:
    """One page: where those of a Word document end is known to what prints it alone."""
    pictures = 0

    def counted(events: Iterable[Event]) -> Iterator[Event]:
        nonlocal pictures
        for event in events:
            pictures += isinstance(event, Start) and event.name in ("blip", "imagedata")
            yield event

    text = paragraphs(counted(packed.events(MAIN)))
    notes = [paragraphs(packed.events(name)) for name in _NOTES]
    yield Page("1", "\n\n".join(filter(None, [text, *notes])).strip(), pictured=pictures > 0)


def paragraphs(events: Iterable[Event]) -> str:
    """Paragraphs a line each, rows of tables as "| a | b |", headings and lists as Markdown."""
    lines = _Lines()
    for event in without(events, _SKIPPED):
        if isinstance(event, str):
            lines.text(event)
        elif isinstance(event, Start):
            lines.start(event)
        else:
            lines.end(event.name)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines.done)).strip("\n")


class _Lines:
    """The lines so far, and what is open: a paragraph, tables, their rows and cells."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._around: list[list[str]] = []  # the lines before each cell that is open
        self._rows: list[list[str]] = []  # the cells of each row that is open
        self._run: list[str] = []
        self._mark = ""
        self._in_text = False

    def text(self, text: str) -> None:
        if self._in_text:
            self._run.append(text)

    def start(self, event: Start) -> None:
        if event.name == "t":
            self._in_text = True
        elif event.name == "tr":
            self._rows.append([])
        elif event.name == "tc":
            self._around.append(self.done)
            self.done = []
        else:
            self._run += _BREAKS.get(event.name, "")
            self._mark = self._mark or _mark(event)

    def end(self, name: str) -> None:
        if name == "t":
            self._in_text = False
        elif name == "p":
            self.done.append(self._mark + "".join(self._run) if self._run else "")
            self._run, self._mark = [], ""
        elif name == "tr" and self._rows:
            self.done.append(f"| {' | '.join(self._rows.pop())} |")
        elif name == "tc" and self._around:
            cell = " ".join(filter(None, self.done))
            self.done = self._around.pop()
            if self._rows:
                self._rows[-1].append(cell)


def without(events: Iterable[Event], names: frozenset[str]) -> Iterator[Event]:
    """The events outside elements of these names."""
    inside = 0
    for event in events:
        named = not isinstance(event, str) and event.name in names
        inside += named and isinstance(event, Start)
        if not inside:
            yield event
        inside -= named and isinstance(event, End)


def _mark(start: Start) -> str:
    """What a paragraph's properties put before it."""
    if start.name == "pStyle":
        style = re.fullmatch(r"(?i)heading ?([1-6])", start.attributes.get("val", ""))
        return "#" * int(style[1]) + " " if style else ""
    return "- " if start.name == "numPr" else ""
