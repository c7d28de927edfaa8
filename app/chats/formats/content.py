"""Contents of messages that are more than text, as text: parts, tool calls, files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from openchat_local.app.chats.formats import findings as found
from openchat_local.app.chats.formats.findings import Findings

_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_THOUGHTS = frozenset({"thinking", "redacted_thinking", "reasoning"})
_CALLS = frozenset({"tool_use", "server_tool_use", "function_call", "toolCallRequest"})
_ANSWERS = frozenset({"tool_result", "toolCallResult"})


def text_of_part(part: Any, place: str, findings: Findings) -> str | None:
    """A part of a message's content as text; "" for one that is left out, with a note. None
    for what is no part at all."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return None
    kind = part.get("type")
    if not isinstance(kind, str):
        return None
    if kind in _TEXTS:
        text = part.get(_TEXTS[kind])
        return text if isinstance(text, str) else None
    if kind in _THOUGHTS:
        findings.note(found.THOUGHTS, place)
        return ""
    if kind in _CALLS:
        return tool_call(part, place, findings)
    if kind in _ANSWERS:
        answer = part.get("content")
        return tool_answer(parts_text(_listed(answer), place, findings))
    return _marker(kind, part, place, findings)


def _marker(kind: str, part: Mapping[str, Any], place: str, findings: Findings) -> str:
    for word, note, marker in (
        ("image", found.IMAGE, "[image]"),
        ("audio", found.AUDIO, "[audio]"),
        ("file", found.FILE, f"[file: {_name(part)}]"),
        ("document", found.FILE, f"[file: {_name(part)}]"),
    ):
        if word in kind:
            findings.note(note, place)
            return marker
    findings.note(found.UNKNOWN_PART, place)
    return ""


def parts_text(parts: Iterable[Any], place: str, findings: Findings) -> str:
    """Parts as one text; what is none of them is left out, with a note."""
    texts = []
    for i, part in enumerate(parts):
        text = text_of_part(part, f"{place}[{i}]", findings)
        if text is None:
            findings.note(found.UNKNOWN_PART, f"{place}[{i}]")
        texts.append(text or "")
    return joined(texts)


def joined(texts: Iterable[str]) -> str:
    """Texts one after the other, and what is no prose of theirs on lines of its own."""
    whole = ""
    for text in filter(None, texts):
        apart = text.startswith(("[", "```")) or whole.endswith(("]", "```"))
        whole += "\n\n" + text if whole and apart and not whole.endswith("\n") else text
    return whole


def tool_call(call: Mapping[str, Any], place: str, findings: Findings) -> str:
    """The call of a tool as a block of JSON: its name and its arguments."""
    findings.note(found.TOOL_CALL, place)
    function = call.get("function")
    inner = function if isinstance(function, Mapping) else call
    arguments = next(
        (inner[name] for name in ("arguments", "input", "parameters") if name in inner), None
    )
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):  # else they are kept as the string they are
            arguments = json.loads(arguments)
    name = inner.get("name")
    said = {"tool": name if isinstance(name, str) else "", "arguments": arguments}
    return f"```json\n{json.dumps(said, ensure_ascii=False, indent=1)}\n```"


def tool_answer(text: str) -> str:
    """The answer of a tool, marked as one."""
    return f"[answer of a tool]\n\n{text}"


def file_marks(files: Any, place: str, findings: Findings) -> list[str]:
    """A mark for each file or image that lay beside a message."""
    marks = []
    for each in _listed(files):
        if isinstance(each, Mapping):
            kind = str(each.get("file_kind") or each.get("type") or "file")
            marks.append(_marker(kind if "image" in kind else "file", each, place, findings))
    return marks


def _name(part: Mapping[str, Any]) -> str:
    inner = part.get("file")
    for each in (part, inner if isinstance(inner, Mapping) else {}):
        for name in ("file_name", "filename", "name", "fileName", "title"):
            if isinstance(each.get(name), str) and each[name]:
                return str(each[name])
    return "without a name"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
