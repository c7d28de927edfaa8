"""The text of Open WebUI's messages, which holds thoughts and tools as marked-up blocks."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

from openchat_local.app.chats.formats import findings as found
from openchat_local.app.chats.formats.content import (
    joined,
    parts_text,
    text_of_part,
    tool_answer,
    tool_call,
)
from openchat_local.app.chats.formats.findings import Findings

_BLOCK = re.compile(
    r'\s*<details type="(reasoning|tool_calls|code_interpreter)"([^>]*)>(.*?)</details>\s*',
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_SUMMARY = re.compile(r"\s*<summary>.*?</summary>\s*", re.DOTALL)


def reply_text(content: Any, output: Any, place: str, findings: Findings) -> str:
    """The text of a message without the model's thoughts, the calls of tools as text.

    `output` is what newer versions write beside or in place of `content`: the items of
    OpenAI's Responses.
    """
    if not isinstance(content, str):
        listed = content if isinstance(content, list) else [content]
        return parts_text(listed, f"{place}.content", findings)
    if not content.strip() and isinstance(output, list):
        return joined(_items(output, f"{place}.output", findings))
    if '<details type="' not in content:
        return content
    texts, end = [], 0
    for block in _BLOCK.finditer(content):
        texts += [content[end : block.start()], _of_block(block, place, findings)]
        end = block.end()
    return "\n\n".join(filter(None, [*texts, content[end:]]))


def _of_block(block: re.Match[str], place: str, findings: Findings) -> str:
    kind, attributes, inside = block.groups()
    if kind == "reasoning":
        findings.note(found.THOUGHTS, place)
        return ""
    inside = _SUMMARY.sub("", inside).strip()
    if kind == "code_interpreter":
        findings.note(found.TOOL_CALL, place)
        return inside
    said = {name: html.unescape(text) for name, text in _ATTRIBUTE.findall(attributes)}
    answer = _unquoted(said.get("result") or html.unescape(inside))
    call = tool_call(said, place, findings)
    return joined([call, tool_answer(answer)]) if answer else call


def _unquoted(text: str) -> str:
    """A text that is a string of JSON, as what it says."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str) else text


def _items(output: list[Any], place: str, findings: Findings) -> Iterator[str]:
    for i, item in enumerate(output):
        where = f"{place}[{i}]"
        kind = item.get("type") if isinstance(item, dict) else None
        if kind in ("message", "function_call_output"):
            parts = item.get("content" if kind == "message" else "output")
            text = parts_text(parts if isinstance(parts, list) else [parts or ""], where, findings)
            yield text if kind == "message" else tool_answer(text)
        else:
            part = text_of_part(item, where, findings)
            if part is None:
                findings.note(found.UNKNOWN_PART, where)
            yield part or ""
