"""The child process in which a document is read: `python -m …child KIND < FILE`.

On standard output comes a line of JSON for each page, {"label", "text", "pictured"}, before them
{"form", "unit", "total"}, and after them {"end": true}; or {"reason", "remedy"} where it cannot be
read. Whatever a file makes of its reader is bounded: memory, time, output; and once the reader
stands nothing more can be opened here, no file and no socket, and no process begun.
"""

from __future__ import annotations

import codecs
import importlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from openchat_local.app.documents.document import LARGEST_TEXT, Page, Unreadable
from openchat_local.app.documents.kinds import FORMS
from openchat_local.models.system.child_process import take_over_standard_streams

MEMORY = 1 << 30
"""Bytes of address space; a book of a thousand pages takes a fifth of it."""
OUT_OF_MEMORY = 3
"""The exit code that says so."""
SECONDS = 30
"""A child that nobody listens to any more ends by itself."""

Line = dict[str, object]


def main() -> int:
    kind = sys.argv[1]
    file, out = take_over_standard_streams()
    threading.Thread(target=_end_later, daemon=True).start()
    _prepare(kind)
    _close_doors()
    try:
        for line in read(kind, file):
            out.write(json.dumps(line).encode() + b"\n")
            out.flush()
    except MemoryError:
        return OUT_OF_MEMORY
    return 0


def read(kind: str, file: BinaryIO) -> Iterator[Line]:
    """The lines that go to the parent."""
    try:
        said = 0
        for line in _pages(kind, file):
            said += len(str(line.get("text", "")))
            yield line
            if said > LARGEST_TEXT:
                break
        else:
            yield {"end": True}
    except Unreadable as problem:
        yield {"reason": problem.reason, "remedy": problem.remedy}


def _pages(kind: str, file: BinaryIO) -> Iterator[Line]:
    if kind == "pdf":
        from openchat_local.app.documents import pdf

        pages = pdf.Pages(file)
        yield _about("PDF", "page", pages.count)
        yield from map(_line, pages.read())
    elif kind == "html":
        from openchat_local.app.documents import html

        yield _about(FORMS[".html"], "", 1)
        yield _line(html.read(file))
    else:
        yield from _packed(file)


def _packed(file: BinaryIO) -> Iterator[Line]:
    from openchat_local.app.documents import epub, open_document, sheets, slides, word
    from openchat_local.app.documents.packed import Packed

    packed = Packed(file)
    if word.MAIN in packed:
        yield _about(FORMS[".docx"], "", 1)
        yield from map(_line, word.read(packed))
    elif slides.MAIN in packed:
        yield _about(FORMS[".pptx"], "slide", len(slides.slide_names(packed)))
        yield from map(_line, slides.read(packed))
    elif sheets.MAIN in packed:
        yield _about(FORMS[".xlsx"], "sheet", len(sheets.sheet_names(packed)))
        yield from map(_line, sheets.read(packed))
    elif epub.MAIN in packed:
        yield _about(FORMS[".epub"], "chapter", len(epub.chapter_names(packed)))
        yield from map(_line, epub.read(packed))
    elif kind := open_document.kind_of(packed):
        form, unit = open_document.FORMS[kind]
        yield _about(form, unit, open_document.count(packed, kind))
        yield from map(_line, open_document.read(packed, kind))
    else:
        raise Unreadable("is an archive and no document", "unpack it, and attach what is in it")


def _about(form: str, unit: str, total: int) -> Line:
    return {"form": form, "unit": unit, "total": total}


def _line(page: Page) -> Line:
    # Escaped as JSON a lone half of a surrogate pair would cross, and be no text on the other side.
    text = page.text.encode("utf-8", "replace").decode()
    return {"label": page.label, "text": text, "pictured": page.pictured}


# Bounds


def _prepare(kind: str) -> None:
    """Import whatever the reading will want, while there is still something to be opened."""
    from openchat_local.app.documents import html

    for encoding in html.ENCODINGS:
        codecs.lookup(encoding)
    if kind == "pdf":
        importlib.import_module("openchat_local.app.documents.pdf")
        with suppress(ImportError):  # which the reading will say
            importlib.import_module("pypdfium2.raw")
        return
    for name in ("epub", "open_document", "sheets", "slides", "word", "packed"):
        importlib.import_module(f"openchat_local.app.documents.{name}")
    for name in ("bz2", "lzma", "zlib", "encodings.cp437"):
        with suppress(ImportError):
            importlib.import_module(name)


def _end_later() -> None:
    threading.Event().wait(SECONDS)
    os._exit(1)


def _close_doors() -> None:
    """No more memory, files, sockets, processes and written bytes than reading takes. Windows
    knows none of these limits; the parent watches the memory there, as it does everywhere."""
    if sys.platform == "win32":
        return
    import resource

    for name, limit in (
        ("RLIMIT_AS", MEMORY),
        ("RLIMIT_CPU", SECONDS),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_NPROC", 0),
        ("RLIMIT_NOFILE", 0),
    ):
        with suppress(AttributeError, OSError, ValueError):  # not every system has or takes each
            resource.setrlimit(getattr(resource, name), (limit, limit))


if __name__ == "__main__":
    sys.exit(main())
