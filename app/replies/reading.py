"""The text of one file, document or folder that a prompt mentions."""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from openchat_local.app.documents.document import Document, Unreadable
from openchat_local.app.documents.extraction import extract
from openchat_local.app.documents.kinds import FORMS, Kind, is_picture, kind_of
from openchat_local.app.documents.passages import joined
from openchat_local.app.printable import printable
from openchat_local.app.replies.attachments import Attachment, block
from openchat_local.app.replies.mentions import BEST, SOURCE, Mention, in_ranges, numbers
from openchat_local.app.wording import counted
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.documents.folder_index import Best, FolderIndex

LARGEST = 1_000_000  # bytes: some 250,000 tokens, more than any model here reads
LARGEST_DOCUMENT = 500_000_000  # bytes; most of such a one are pictures
BYTES_A_TOKEN = 3
"""A cautious guess: English has four, Chinese three."""
KEPT_TEXT = 20_000_000
"""Characters of documents that are held."""
KEPT_FOLDERS = 4


Stamp = tuple[str, int, int]
"""A file as it is: its path, when it was changed, and its bytes."""


AS_SENT = "as it was sent"
"""What is said of a file that went along with an earlier version of a prompt."""


class AttachmentError(OpenChatError):
    """A file that cannot be attached. `holds_back` says that it was surely meant, so that the
    prompt is not sent without it; else its mention stays what was written."""

    def __init__(self, name: str, reason: str, remedy: str, *, holds_back: bool = False) -> None:
        shown = printable(name)
        stays = "" if holds_back else ", so it stays a word of the prompt"
        super().__init__(f"@{shown} {reason}{stays}: {remedy}.")
        self.name = name
        self.holds_back = holds_back
        self.alone = f"{shown} {reason}: {remedy}."
        """The sentence where it was not a prompt that named the file."""


@dataclass(frozen=True, slots=True)
class Attached:
    """What goes along for one mention. `about` says what it is ("PDF, 12 pages"), "" for a text
    file; `notes` are sentences about it. Of a document, `pages` are the numbers that go along."""

    mention: Mention
    parts: tuple[Attachment, ...]
    about: str = ""
    notes: tuple[str, ...] = ()
    document: Document | None = None
    pages: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """What the model gets of it."""
        return "\n\n".join(map(block, self.parts))


@dataclass(frozen=True, slots=True)
class Wish:
    """How much is wanted: of a folder what suits `question`, up to `room` tokens; nothing that
    takes long unless `read`; and nothing at all once `wanted` says no."""

    question: str
    room: int
    read: bool = True
    wanted: Callable[[], bool] = lambda: True


class Shelf:
    """Reads files, and holds the documents and folders that it has read. For any thread."""

    def __init__(self) -> None:
        self._documents: dict[Stamp, Document | Unreadable] = {}
        self._folders: dict[Path, FolderIndex] = {}
        self._lock = threading.Lock()

    def attached(self, mention: Mention, wish: Wish) -> Attached | None:
        """What goes along for a mention; None for what would have to be read first.

        Raises AttachmentError, one sentence that says what to do, and Cancelled.
        """
        name = mention.name
        try:
            # Before it is opened: who opens a pipe waits for the one who writes into it.
            status = mention.path.stat()
            if stat.S_ISDIR(status.st_mode):
                return self._of_folder(mention, wish)
            if not stat.S_ISREG(status.st_mode):
                raise AttachmentError(name, "is a device or a pipe", "attach a file")
            if mention.part == BEST:
                return self._searched(mention, status, wish)
            return self._of_file(mention, status, wish)
        except Unreadable as problem:
            raise AttachmentError(name, problem.reason, problem.remedy, holds_back=True) from None
        except OSError as error:
            raise AttachmentError(
                name,
                f"cannot be read ({error.strerror})",
                "correct the path or the file's permissions",
                holds_back=mention.is_document,
            ) from None

    def _of_file(self, mention: Mention, status: os.stat_result, wish: Wish) -> Attached | None:
        with mention.path.open("rb") as file:
            kind = None if mention.part == SOURCE else kind_of(file, mention.path.suffix)
            if kind is None:
                file.seek(0)
                return _of_text(mention, file.read(LARGEST + 1), status.st_size)
            stamp = str(mention.path.absolute()), status.st_mtime_ns, status.st_size
            known = self._documents.get(stamp)
            if known is None:
                if not wish.read:
                    return None
                known = _read(file, kind, status.st_size, wish)
                self._keep(stamp, known)
        if isinstance(known, Unreadable):
            raise known
        return _of_document(mention, known)

    def _keep(self, stamp: Stamp, known: Document | Unreadable) -> None:
        """Hold what was read, and of what was read before as much as there is room for."""
        with self._lock:
            self._documents[stamp] = known
            held = 0
            for each in reversed(list(self._documents)):
                document = self._documents[each]
                if isinstance(document, Document):
                    held += sum(len(page.text) for page in document.pages)
                if held > KEPT_TEXT and each != stamp:
                    del self._documents[each]

    def _of_folder(self, mention: Mention, wish: Wish) -> Attached | None:
        name = mention.name
        if not mention.is_folder:
            if mention.looks_like_a_file:
                raise AttachmentError(name, "is a folder", "attach the files in it")
            raise AttachmentError(name, "is a folder", f"@{name}/ attaches what suits the prompt")
        best = self._best(mention.path.absolute(), wish)
        return None if best is None else _of_best(mention, best)

    def _searched(self, mention: Mention, status: os.stat_result, wish: Wish) -> Attached | None:
        """What of a single file suits the prompt."""
        best = self._best(mention.path.absolute(), wish)
        if best is not None and not best.files:  # which its reader has a reason for
            self._of_file(replace(mention, part=""), status, wish)
        return None if best is None else _of_best(mention, best)

    def _best(self, folder: Path, wish: Wish) -> Best | None:
        """What of a folder or a file suits the prompt; None where it would have to be read."""
        from openchat_local.app.documents.folder_index import FolderIndex

        with self._lock:
            index = self._folders.get(folder)
            if index is None:
                if not wish.read:
                    return None
                index = self._folders[folder] = FolderIndex(folder)
                for oldest in list(self._folders)[:-KEPT_FOLDERS]:
                    del self._folders[oldest]
        if wish.read:
            index.refresh(wish.wanted)
        return index.best(wish.question, wish.room * BYTES_A_TOKEN, wait=wish.read)


def _read(file: BinaryIO, kind: Kind, size: int, wish: Wish) -> Document | Unreadable:
    try:
        if size > LARGEST_DOCUMENT:
            most = f"{LARGEST_DOCUMENT:,}"
            raise Unreadable(f"has {size:,} bytes, and a document can have {most}", "split it")
        return extract(file, kind, wanted=wish.wanted)
    except Unreadable as problem:
        return problem


def _of_text(mention: Mention, data: bytes, size: int) -> Attached:
    name = mention.name
    form = FORMS.get(mention.path.suffix.lower(), "")
    if is_picture(data):
        raise AttachmentError(
            name,
            "is a picture, and models read text here",
            "describe it",
            holds_back=mention.is_document,
        )
    if b"\0" in data and form and mention.part != SOURCE:
        raise Unreadable(f"is no {form}, whatever its name says", "look what it is")
    if len(data) > LARGEST:
        raise AttachmentError(
            name,
            f"has {size:,} bytes, and an attachment can have {LARGEST:,}",
            "attach the part that matters",
        )
    text, about = _decoded(data, name), ""
    if mention.part and mention.part != SOURCE:
        lines = text.removesuffix("\n").split("\n")
        chosen = _chosen(mention, len(lines), "line")
        text = "\n".join(lines[number - 1] for number in chosen)
        about = f"{'lines' if len(chosen) > 1 else 'line'} {in_ranges(chosen)} of {len(lines):,}"
    notes: tuple[str, ...] = ()
    if form and form != FORMS[".html"]:
        notes = (f"It is text and no {form}, whatever its name says.",)
    titled = f"{name} ({about})" if about else name
    language = mention.path.suffix[1:]
    return Attached(mention, (Attachment(titled, text, language),), about, notes)


def _of_document(mention: Mention, document: Document) -> Attached:
    unit, total, there = document.unit, document.total, len(document.pages)
    chosen = _chosen(mention, there, unit) if mention.part else list(range(1, there + 1))
    text = document.text(chosen)
    empty = [number for number in document.without_text if number in chosen]
    if not text.strip() or not any(document.pages[n - 1].text.strip() for n in chosen):
        where = f" on its {counted(len(chosen), unit)}" if unit else ""
        reason = f"has no text{where} (scanned, or pictures)"
        raise Unreadable(reason, "put it through OCR first, and attach what comes out")
    if len(text) > LARGEST:
        example = f", such as @{printable(mention.path.name)}:1-20" if there > 20 else ""
        reason = f"has {len(text):,} characters, and an attachment can have {LARGEST:,}"
        raise Unreadable(reason, f"attach a part of it{example}")
    about = document.form
    if unit and mention.part:
        plural = unit if len(chosen) == 1 else f"{unit}s"
        about += f", {plural} {in_ranges(chosen)} of {total:,}"
    elif unit:
        about += f", {counted(there, unit)}" + (f" of {total:,}" if there < total else "")
    notes = list(document.notes)
    if FORMS.get(mention.path.suffix.lower()) != document.form:
        notes.append(f"It is a {document.form}, whatever its name says.")
    if empty and unit:
        have = "has" if len(empty) == 1 else "have"
        why = "scanned?" if document.form == FORMS[".pdf"] else "pictures?"
        notes.append(f"{len(empty):,} of {counted(len(chosen), unit)} {have} no text ({why}).")
    elif document.form == FORMS[".docx"] and document.pages[0].pictured:
        notes.append("Its pictures are not read.")
    part = Attachment(f"{mention.name} ({about})", text)
    return Attached(mention, (part,), about, tuple(notes), document, tuple(chosen))


def _of_best(mention: Mention, best: Best) -> Attached:
    name = mention.name
    out = ", ".join(f"{count:,} {why}" for why, count in best.left_out)
    notes = (f"Left out: {out}.",) if out else ()
    if not best.hits:
        if not best.files:
            more = f" ({out})" if out else ""
            raise Unreadable(f"has no text that could be searched{more}", "attach another one")
        if not mention.is_folder:
            raise Unreadable("has none of the prompt's words", "use words that are in it")
        reason = f"has none of the prompt's words in its {counted(best.files, 'file')}"
        raise Unreadable(reason, "use words that are in them, or attach one of them")
    parts, passages = [], 0
    for hit in best.hits:
        where, text = joined(hit.passages)
        passages += len(hit.passages)
        whole = f"{name}{hit.file.name}" if mention.is_folder else name.removesuffix(f":{BEST}")
        titled = f"{whole} ({where}; found in {name})"
        parts.append(Attachment(titled, text, _language(hit.file.name)))
    if not mention.is_folder:
        about = "all of it" if best.whole else f"{counted(passages, 'passage')} of it"
    elif best.whole:
        about = f"all of its {counted(best.files, 'file')}"
    else:
        about = f"{counted(passages, 'passage')} of {len(parts):,} of {counted(best.files, 'file')}"
    return Attached(mention, tuple(parts), about, notes)


def _language(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return "" if suffix in FORMS else suffix[1:]


def _chosen(mention: Mention, total: int, unit: str) -> list[int]:
    """The numbers that a mention asks for. Raises AttachmentError."""
    try:
        return numbers(mention.part, total if unit else 0)
    except ValueError:
        have = f"has {counted(total, unit)}" if unit else "has no pages that could be told apart"
        whole = mention.name.removesuffix(f":{mention.part}")
        raise AttachmentError(
            mention.name,
            f"is not there: {printable(mention.path.name)} {have}",
            f"write @{printable(whole)}{':1-2' if unit else ''}",
            holds_back=True,
        ) from None


def _decoded(data: bytes, name: str) -> str:
    if b"\0" in data:
        raise AttachmentError(name, "is a binary file", "attach text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AttachmentError(
            name, f"is not UTF-8 (byte {error.start})", "convert it to UTF-8 first"
        ) from None
    return re.sub("\r\n?", "\n", text)
