"""Files → chats: our own JSON, OpenAI's messages (JSON, JSONL) and ShareGPT's JSON.

A file is imported whole or not at all, and every fault in it is named with its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from openchat_local.app.chats.drafts import ChatDraft, MessageDraft
from openchat_local.app.chats.errors import ChatImportError, translated
from openchat_local.app.chats.formats.checks import TEXT, Faults, at, is_text
from openchat_local.app.chats.formats.export import FORMAT
from openchat_local.app.chats.formats.own import own_chat
from openchat_local.app.chats.records import Chat
from openchat_local.app.chats.store import ChatStore
from openchat_local.models.conversation import Role

ROLE_WORDS: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
}


class Document(NamedTuple):
    """A JSON value that is one chat, and where in the file it begins ("line 3, ")."""

    place: str
    value: Any


class Turns(NamedTuple):
    """How a format names the turns of a chat, and their roles and texts."""

    turns: str
    role: str
    content: str


OPENAI = Turns("messages", "role", "content")
SHAREGPT = Turns("conversations", "from", "value")


def import_file(store: ChatStore, path: Path) -> list[Chat]:
    """Add the chats of a file, under new ids and in one transaction.

    Raises ChatImportError (naming every fault; nothing was imported), ChatStoreError.
    """
    with translated(path):
        data = path.read_bytes()
    return store.add_chats(read_chats(str(path), data))


def read_chats(source: str, data: bytes) -> list[ChatDraft]:
    """The chats in the bytes of a file called `source`. Raises ChatImportError."""
    faults: Faults = []
    chats = [_chat(document, faults) for document in _documents(source, data, faults)]
    if not chats and not faults:
        faults.append("it holds no chat")
    if faults:
        raise ChatImportError(source, tuple(faults))
    return chats


def _documents(source: str, data: bytes, faults: Faults) -> Iterator[Document]:
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ChatImportError(source, (f"byte {error.start} is not UTF-8",)) from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    try:
        value = _parse(text)
    except ValueError as error:
        # JSONL is recognised by a first line that is complete in itself.
        if len(lines) > 1 and _is_json(lines[0][1]):
            yield from _json_lines(lines, faults)
        elif lines:
            faults.append(f"{_json_place(error)}it is no JSON ({_json_fault(error)})")
        return
    if isinstance(value, list) and not _is_list_of_turns(value):
        yield from (Document(f"[{i}]", each) for i, each in enumerate(value))
    else:
        yield Document("", value)


def _json_lines(lines: list[tuple[int, str]], faults: Faults) -> Iterator[Document]:
    for number, line in lines:
        try:
            yield Document(f"line {number}, ", _parse(line))
        except ValueError as error:
            faults.append(f"line {number} is no JSON ({_json_fault(error)})")


def _chat(document: Document, faults: Faults) -> ChatDraft:
    place, value = document
    if isinstance(value, list):
        value = {("conversations" if _has(value, "from") else "messages"): value}
    if not isinstance(value, dict):
        faults.append(f"{place.removesuffix(', ') or 'the file'} holds no chat")
    elif "format" in value:
        if value["format"] == FORMAT:
            return own_chat(place, value, faults)
        faults.append(f'{at(place, "format")} is not "{FORMAT}"')
    elif OPENAI.turns in value:
        return _turns(place, value, OPENAI, faults)
    elif SHAREGPT.turns in value:
        return _turns(place, value, SHAREGPT, faults)
    else:
        where = place.removesuffix(", ") or "the file"
        faults.append(f'{where} has neither "messages" nor "conversations"')
    return ChatDraft(())


def _turns(place: str, value: dict[str, Any], names: Turns, faults: Faults) -> ChatDraft:
    """A chat without branches; a system turn at its head is its system prompt."""
    title = value.get("title") or ""
    if not is_text(title):
        faults.append(f"{at(place, 'title')} is not {TEXT.expected}")
    turns = value[names.turns]
    if not isinstance(turns, list) or not turns:
        faults.append(f"{at(place, names.turns)} is not a list of turns")
        return ChatDraft(())
    read = []
    for i, turn in enumerate(turns):
        where = at(place, f"{names.turns}[{i}]")
        if not isinstance(turn, dict):
            faults.append(f"{where} is no object")
            continue
        read.append((_role(turn, names, where, faults), _content(turn, names, where, faults)))
    fields = {"title": title} if title else {}
    if read and read[0][0] == "system":
        fields["system_prompt"] = read.pop(0)[1]
    messages = tuple(
        MessageDraft(role, content, i - 1 if i else None) for i, (role, content) in enumerate(read)
    )
    return ChatDraft(messages, fields)


def _role(turn: dict[str, Any], names: Turns, place: str, faults: Faults) -> Role:
    word = turn.get(names.role)
    role = ROLE_WORDS.get(word) if isinstance(word, str) else None
    if role is None:
        known = ", ".join(ROLE_WORDS)
        faults.append(f"{place}.{names.role} is {_shown(word)}, not one of {known}")
    elif turn.get("tool_calls") or turn.get("function_call"):
        faults.append(f"{place} calls a tool, which chats cannot hold")
    return role or "user"


def _content(turn: dict[str, Any], names: Turns, place: str, faults: Faults) -> str:
    content = turn.get(names.content)
    where = f"{place}.{names.content}"
    if isinstance(content, list):  # OpenAI's content parts
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        for i, part in enumerate(parts):
            if not is_text(part):
                faults.append(f"{where}[{i}] is not a part with text")
        return "".join(part for part in parts if isinstance(part, str))
    if not is_text(content):
        faults.append(f"{where} is not {TEXT.expected}")
    return content if isinstance(content, str) else ""


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _is_json(text: str) -> bool:
    try:
        _parse(text)
    except ValueError:
        return False
    return True


def _json_fault(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return str(error)


def _json_place(error: ValueError) -> str:
    return f"line {error.lineno}: " if isinstance(error, json.JSONDecodeError) else ""


def _is_list_of_turns(value: list[Any]) -> bool:
    return _has(value, "role") or _has(value, "from")


def _has(turns: list[Any], name: str) -> bool:
    return bool(turns) and isinstance(turns[0], dict) and name in turns[0]


def _shown(word: object) -> str:
    return "missing" if word is None else json.dumps(word)[:40]
