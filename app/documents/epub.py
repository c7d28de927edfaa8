"""The text of an EPUB: its chapters in reading order."""

from __future__ import annotations

from collections.abc import Iterator

from openchat_local.app.documents.document import Page, Unreadable
from openchat_local.app.documents.html import text_of
from openchat_local.app.documents.markup import DAMAGED, Start
from openchat_local.app.documents.packed import Packed, member

MAIN = "META-INF/container.xml"
LARGEST_CHAPTER = 20 << 20  # bytes
_FONTS_ALONE = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""What is no lock on the words."""


def chapter_names(packed: Packed) -> list[str]:
    """The members of the chapters, first to last. Raises Unreadable for a book that is locked."""
    for event in packed.events("META-INF/encryption.xml"):
        if isinstance(event, Start) and event.name == "EncryptionMethod":
            locked = event.attributes.get("Algorithm") not in _FONTS_ALONE
            if locked:
                raise Unreadable("is locked by its seller (DRM)", "attach one that is not")
    package = next(
        (
            event.attributes.get("full-path", "")
            for event in packed.events(MAIN)
            if isinstance(event, Start) and event.name == "rootfile"
        ),
        "",
    )
    if package not in packed:
        raise DAMAGED
    items: dict[str, str] = {}
    order: list[str] = []
    for event in packed.events(package):
        if isinstance(event, Start) and event.name == "item":
            items[event.attributes.get("id", "")] = event.attributes.get("href", "")
        elif isinstance(event, Start) and event.name == "itemref":
            order.append(event.attributes.get("idref", ""))
    names = (member(package, items[each]) for each in order if each in items)
    return [name for name in names if name in packed]


def read(packed: Packed) -> Iterator[Page]:
    """A page a chapter, as the book's own files cut it."""
    for number, name in enumerate(chapter_names(packed), 1):
        with packed.open(name) as stream:
            data = stream.read(LARGEST_CHAPTER)
        yield Page(str(number), *text_of(data))
