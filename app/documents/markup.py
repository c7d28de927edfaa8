"""XML as events, with nothing of it that could grow: for what reads packed documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO
from xml.parsers import expat

from openchat_local.app.documents.document import Unreadable

CHUNK = 1 << 16
DEEPEST = 400  # elements within each other; the deepest real documents have some fifty

DAMAGED = Unreadable("is damaged", "get it again, or save it anew from the program that made it")


@dataclass(frozen=True, slots=True)
class Start:
    """An element begins. Names are without their namespaces."""

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class End:
    """An element ends."""

    name: str


Event = Start | End | str
"""Text is a string."""


def events(stream: IO[bytes]) -> Iterator[Event]:
    """What an XML file consists of, as it is read.

    Entities are never declared in these formats: a declaration is the beginning of a bomb, and
    ends the reading. So does a depth that no document has. Raises Unreadable.
    """
    heard: list[Event] = []
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise DAMAGED
        local = {_local(key): value for key, value in attributes.items()}
        heard.append(Start(_local(name), local))

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        heard.append(End(_local(name)))

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = heard.append
    parser.EntityDeclHandler = _refuse
    try:
        while chunk := stream.read(CHUNK):
            parser.Parse(chunk, False)
            yield from heard
            heard.clear()
        parser.Parse(b"", True)
        yield from heard
    except expat.ExpatError:
        raise DAMAGED from None


def _refuse(*_: object) -> None:
    raise Unreadable("declares entities of its own, as no such document does", "do not trust it")


def _local(name: str) -> str:
    return name.rpartition(" ")[2]
