"""Files → chats: our own JSON, what other programs let one download, OpenAI's messages and
ShareGPT's conversations.

A file is imported whole or not at all, unless its faulty chats are to be skipped, and every
fault in it is named with its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openchat_local.app.chats.drafts import ChatDraft
from openchat_local.app.chats.errors import ChatImportError, translated
from openchat_local.app.chats.formats import archive
from openchat_local.app.chats.formats.chatgpt import (
    Verdicts,
    chatgpt_chat,
    is_chatgpt,
    verdicts_of,
)
from openchat_local.app.chats.formats.checks import at
from openchat_local.app.chats.formats.claude import claude_chat, is_claude
from openchat_local.app.chats.formats.export import FORMAT
from openchat_local.app.chats.formats.findings import EMPTY, Findings, summary
from openchat_local.app.chats.formats.lm_studio import is_lm_studio, lm_studio_chat
from openchat_local.app.chats.formats.open_webui import is_open_webui, open_webui_chat
from openchat_local.app.chats.formats.open_webui_feedback import feedback_chats, is_feedback
from openchat_local.app.chats.formats.own import own_chat
from openchat_local.app.chats.formats.reading import Document, documents, has_turns
from openchat_local.app.chats.formats.turns import OPENAI, SHAREGPT, linear_chat
from openchat_local.app.chats.records import Chat
from openchat_local.app.chats.store import ChatStore

_OPEN_WEBUI = "Open WebUI"


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a file: its chats; the faults of those that were skipped, all of them; and
    a sentence for each kind of thing that was left out of the others or changed in them."""

    chats: tuple[Chat, ...]
    skipped: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """The same before anything is stored."""

    chats: tuple[ChatDraft, ...]
    skipped: tuple[str, ...]
    notes: tuple[str, ...]


def import_file(store: ChatStore, path: Path, *, skip_bad: bool = False) -> Imported:
    """Add the chats of a file, under new ids and in one transaction.

    Raises ChatImportError (naming every fault; nothing was imported), ChatStoreError.
    """
    with translated(path):
        data = path.read_bytes()
    read = read_chats(str(path), data, skip_bad=skip_bad)
    return Imported(tuple(store.add_chats(read.chats)), read.skipped, read.notes)


def read_chats(source: str, data: bytes, *, skip_bad: bool = False) -> Read:
    """The chats in the bytes of a file called `source`.

    Raises ChatImportError for a file without a chat and, unless `skip_bad`, for any fault.
    """
    chats: list[ChatDraft] = []
    faults: list[str] = []
    notes: list[tuple[str, str]] = []
    for draft, findings in _drafts(source, data):
        faults += findings.faults
        if not findings.faults:
            notes += findings.notes
            if draft is not None:
                chats.append(draft)
    if faults and not (skip_bad and chats):
        raise ChatImportError(source, tuple(faults), _advice(skip_bad))
    if not chats:
        # Of a chat without a turn there is no more to say.
        why = [one.removesuffix(".") for one in summary([n for n in notes if n[0] != EMPTY])]
        raise ChatImportError(source, ("it holds no chat", *why), "Give another file.")
    return Read(tuple(chats), tuple(faults), tuple(summary(notes)))


def _advice(skip_bad: bool) -> str:
    correct = "Correct the file and import it again"
    return f"{correct}." if skip_bad else f"{correct}, or leave out what is bad with --skip-bad."


def _drafts(source: str, data: bytes) -> Iterator[tuple[ChatDraft | None, Findings]]:
    """The chats in a file, one after the other, and what came to light in each. Feedbacks are
    chats when all of them are read: several may be about one."""
    feedbacks: list[tuple[str, dict[str, Any]]] = []
    for document, verdicts in _documents(source, data):
        if is_feedback(document.value):
            feedbacks.append((document.place, document.value))
            continue
        findings = Findings()
        yield _chat(document, findings, verdicts), findings
    for draft, findings in feedback_chats(feedbacks):
        yield draft and replace(draft, origin=_OPEN_WEBUI), findings


def _documents(source: str, data: bytes) -> Iterator[tuple[Document, Verdicts]]:
    if not archive.is_archive(data):
        for document in documents(data):
            yield document, {}
        return
    verdicts: Verdicts = {}
    for member in archive.members(source, data):
        if member.name.rpartition("/")[2] == archive.FEEDBACK:
            verdicts = verdicts_of([each.value for each in documents(member.data)])
            continue
        for document in documents(member.data):
            place, fault = f"{member.name}, {document.place}", document.fault
            yield (
                Document(place, document.value, f"{member.name}, {fault}" if fault else None),
                verdicts,
            )


def _chat(document: Document, findings: Findings, verdicts: Verdicts) -> ChatDraft | None:
    """The chat in a document; None where there is none, or nothing in it."""
    place, value, fault = document
    if fault is not None:
        findings.fault(fault)
        return None
    if isinstance(value, list):
        value = {("conversations" if has_turns(value, "from") else "messages"): value}
    if not isinstance(value, dict):
        findings.fault(f"{_where(place)} holds no chat")
        return None
    if "format" in value:
        if value["format"] == FORMAT:
            return own_chat(place, value, findings.faults)
        findings.fault(f'{at(place, "format")} is not "{FORMAT}"')
        return None
    origin, draft = _foreign(place, value, findings, verdicts)
    if draft is not None and not draft.messages and not findings.faults:
        findings.note(EMPTY, place)
        return None
    return draft and replace(draft, origin=origin)


def _foreign(
    place: str, value: dict[str, Any], findings: Findings, verdicts: Verdicts
) -> tuple[str, ChatDraft | None]:
    """The program that a chat comes from, or the form that it is in, and the chat."""
    if is_chatgpt(value):
        return "ChatGPT", chatgpt_chat(place, value, findings, verdicts)
    if is_claude(value):
        return "Claude", claude_chat(place, value, findings)
    if is_open_webui(value):
        return _OPEN_WEBUI, open_webui_chat(place, value, findings)
    if is_lm_studio(value):
        return "LM Studio", lm_studio_chat(place, value, findings)
    for origin, names in (("OpenAI messages", OPENAI), ("ShareGPT", SHAREGPT)):
        if names.turns in value:
            return origin, linear_chat(place, value, names, findings)
    findings.fault(f'{_where(place)} has neither "messages" nor "conversations"')
    return "", None


def _where(place: str) -> str:
    return place.removesuffix(", ") or "the file"
