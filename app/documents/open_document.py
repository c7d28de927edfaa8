"""OpenDocument files (.odt, .ods, .odp), as LibreOffice writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from openchat_local.app.documents.document import Page, Unreadable
from openchat_local.app.documents.markup import End, Event, Start
from openchat_local.app.documents.packed import Packed
from openchat_local.app.documents.word import paragraphs, without

MAIN = "content.xml"
FORMS = {"text": ("text document", ""), "spreadsheet": ("workbook", "sheet"),
         "presentation": ("presentation", "slide")}  # fmt: skip
"""What a file of this kind is said to be, and what its pages are called."""
MOST_REPEATED = 20
"""How often a cell is written that is repeated: more of them fill a sheet to its edge."""
_TYPE = "application/vnd.oasis.opendocument."
_PAGES = {"spreadsheet": "table", "presentation": "page"}
_SKIPPED = frozenset({"tracked-changes", "annotation", "note-citation", "tab-stops", "forms"})
_NAMES = {
    "p": "p",
    "h": "p",
    "table-row": "tr",
    "table-cell": "tc",
    "line-break": "br",
    "tab": "tab",
}


def kind_of(packed: Packed) -> str:
    """ "text", "spreadsheet" or "presentation"; "" for what is no such file. Raises Unreadable for
    one that is encrypted."""
    if MAIN not in packed or "mimetype" not in packed:
        return ""
    with packed.open("mimetype") as stream:
        kind = stream.read(100).decode("ascii", "replace").removeprefix(_TYPE).partition("-")[0]
    for event in packed.events("META-INF/manifest.xml"):
        if isinstance(event, Start) and event.name == "encryption-data":
            raise Unreadable("is protected by a password", "save a copy without one")
    return kind if kind in FORMS else ""


def count(packed: Packed, kind: str) -> int:
    """How many sheets or slides it has; 1 for a text."""
    name = _PAGES.get(kind)
    return (
        1
        if name is None
        else sum(isinstance(event, Start) and event.name == name for event in packed.events(MAIN))
    )


def read(packed: Packed, kind: str) -> Iterator[Page]:
    """A page for all of a text, for a sheet, or for a slide."""
    events = without(packed.events(MAIN), _SKIPPED)
    if kind == "text":
        yield Page("1", paragraphs(_as_in_word(events)))
        return
    for number, (start, inside) in enumerate(_pages(events, _PAGES[kind]), 1):
        if kind == "spreadsheet":
            yield Page(start.attributes.get("name", str(number)), "\n".join(_rows(inside)))
        else:
            yield Page(str(number), paragraphs(_as_in_word(inside)))


def _pages(events: Iterable[Event], name: str) -> Iterator[tuple[Start, list[Event]]]:
    """Each element of this name, with what is in it."""
    start: Start | None = None
    inside: list[Event] = []
    for event in events:
        if start is None:
            if isinstance(event, Start) and event.name == name:
                start, inside = event, []
        elif isinstance(event, End) and event.name == name:
            yield start, inside
            start = None
        else:
            inside.append(event)


def _as_in_word(events: Iterable[Event]) -> Iterator[Event]:
    """The same paragraphs, tables and breaks under the names that they have in Word's files."""
    inside = 0  # paragraphs within each other
    for event in events:
        if isinstance(event, str):
            if inside:
                yield event
            continue
        name = _NAMES.get(event.name)
        if event.name == "s" and isinstance(event, Start) and inside:
            spaces = event.attributes.get("c", "1")
            yield " " * (min(int(spaces), 100) if spaces.isdecimal() else 1)
        elif event.name == "list-item" and isinstance(event, Start):
            yield Start("numPr")
        elif isinstance(event, End):
            if name == "p":
                inside -= 1
                yield End("t")
            if name is not None:
                yield End(name)
        elif name is not None:
            yield Start(name)
            if name == "p":
                inside += 1
                if event.name == "h":
                    level = event.attributes.get("outline-level", "1")
                    yield Start("pStyle", {"val": f"heading{level}"})
                yield Start("t")


def _rows(events: Iterable[Event]) -> Iterator[str]:
    """The rows of a sheet that have anything in them, with tabs between the cells."""
    row: list[str] = []
    cell: list[str] = []
    repeated, inside = 1, 0
    for event in events:
        if isinstance(event, str):
            if inside:
                cell.append(event)
        elif event.name == "p":
            inside += 1 if isinstance(event, Start) else -1
            cell.append(" ")
        elif event.name in ("table-cell", "covered-table-cell"):
            if isinstance(event, Start):
                cell = []
                times = event.attributes.get("number-columns-repeated", "1")
                repeated = min(int(times), MOST_REPEATED) if times.isdecimal() else 1
            else:
                row += [" ".join("".join(cell).split())] * repeated
        elif event.name == "table-row" and isinstance(event, End):
            if line := "\t".join(row).rstrip("\t"):
                yield line
            row = []
