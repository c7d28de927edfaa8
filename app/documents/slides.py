"""The text of a presentation (.pptx): its slides in their order, with the speaker's notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from openchat_local.app.documents.document import Page
from openchat_local.app.documents.markup import Event, Start
from openchat_local.app.documents.packed import Packed
from openchat_local.app.documents.word import paragraphs, without

MAIN = "ppt/presentation.xml"
_SKIPPED = frozenset({"Fallback", "fld", "tabLst"})
"""What stands there twice, the slide's own number and date, and the places of tab stops."""


def slide_names(packed: Packed) -> list[str]:
    """The members of the slides, first to last."""
    related = packed.related(MAIN)
    ids = [
        event.attributes.get("id", "")
        for event in packed.events(MAIN)
        if isinstance(event, Start) and event.name == "sldId"
    ]
    return [related[each][1] for each in ids if each in related]


def read(packed: Packed) -> Iterator[Page]:
    """A page a slide."""
    for number, name in enumerate(slide_names(packed), 1):
        pictures: list[Start] = []
        text = paragraphs(_of_slide(packed.events(name), pictures))
        for kind, target in packed.related(name).values():
            if kind == "notesSlide":
                notes = paragraphs(_of_slide(packed.events(target), []))
                text += f"\n\nNotes: {notes}" if notes else ""
        yield Page(str(number), text.strip(), pictured=bool(pictures))


def _of_slide(events: Iterable[Event], pictures: list[Start]) -> Iterator[Event]:
    for event in without(events, _SKIPPED):
        if isinstance(event, Start) and event.name in ("blip", "graphicFrame"):
            pictures.append(event)
        yield event
