"""Calls of tools and what came back: as turns that a template which knows tools writes, or as text.

Neither is ever learned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from openchat_local.finetune.data.shapes.row import Turn
from openchat_local.models.conversation import Message, ToolCall

_UNKNOWN = ToolCall("", "")
"""A call in no form known here, or what came back from one."""
_MOST_DECLARED = 2**18  # characters


class CallsOfTurns:
    """The calls of a list of turns while it is read, which results are answers to."""

    def __init__(self) -> None:
        self._open: list[tuple[object, ToolCall]] = []  # with the ids that the data gives them
        self._last = _UNKNOWN
        self._count = 0

    def call(self, given: Any) -> Message:
        """The turn that calls: OpenAI's list or object, or its JSON, or another text."""
        if calls := self._opened(given):
            return Message("assistant", "", calls=calls)
        text = given if isinstance(given, str) else json.dumps(given, default=str)
        return Message("assistant", text, calls=(_UNKNOWN,))

    def beside(self, said: Message, given: Any) -> Message:
        """A turn that says something and calls."""
        return replace(said, calls=self._opened(given) or (_UNKNOWN,))

    def result(self, text: str, turn: Mapping[str, Any]) -> Message:
        """The turn of what came back: of the call with its id, or else of the next one."""
        id = turn.get("tool_call_id")
        places = [n for n, (own, _) in enumerate(self._open) if id is not None and own == id]
        if self._open:
            _, self._last = self._open.pop(places[0] if places else 0)
        return Message("user", text, result_of=self._last)

    def _opened(self, given: Any) -> tuple[ToolCall, ...]:
        """The calls in a value; none where one of them is in no form known here."""
        found = []
        for id, name, arguments in _calls(given):
            self._count += 1
            # Nine characters, which is what Mistral's templates insist on.
            call = ToolCall(name, arguments, f"call{self._count:05}")
            found.append((id, call))
        self._open += found
        return tuple(call for _, call in found)


def _calls(given: Any) -> list[tuple[object, str, str]]:
    """The id, the name and the arguments (JSON) of every call."""
    if isinstance(given, str):
        given = _json(given)
    found = []
    for call in given if isinstance(given, list) else [given]:
        named = call.get("function", call) if isinstance(call, dict) else None
        name = named.get("name") if isinstance(named, dict) else None
        if not isinstance(named, dict) or not isinstance(name, str) or not name:
            return []
        arguments = named.get("arguments", named.get("parameters", {}))
        arguments = _json(arguments) if isinstance(arguments, str) else arguments
        if not isinstance(arguments, dict):
            return []
        found.append((call.get("id"), name, json.dumps(arguments, ensure_ascii=False, default=str)))
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def as_text(turns: Sequence[Turn]) -> list[Turn]:
    """The same turns without tools: calls and results are their text, and results that lie side by
    side are one turn."""
    plain: list[Turn] = []
    joins = False
    for message, weight in turns:
        if message.result_of is None:
            joins = False
            text = message.content or "\n".join(map(_written, message.calls))
            plain.append((Message(message.role, text), weight))
        elif joins:
            before, _ = plain.pop()
            plain.append((Message("user", f"{before.content}\n{message.content}"), None))
        else:
            joins = True
            plain.append((Message("user", message.content), None))
    return plain


def as_calls(turns: Sequence[Turn]) -> list[Turn]:
    """The same turns for a template that knows tools, a reply that calls never learned; none
    where nothing is called, or something in no form known here."""
    uses = [m for m, _ in turns if m.calls or m.result_of]
    if not uses or any(_UNKNOWN in (*m.calls, m.result_of) for m in uses):
        return []
    return [(message, 0.0 if message.calls else weight) for message, weight in turns]


def declared(value: Mapping[str, Any]) -> str:
    """The functions that a row declares, as a JSON list in OpenAI's form; "" for none."""
    tools = value.get("tools", value.get("functions"))
    tools = _json(tools) if isinstance(tools, str) else tools
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        return ""
    listed = [
        tool if "function" in tool else {"type": "function", "function": tool} for tool in tools
    ]
    text = json.dumps(listed, ensure_ascii=False, default=str)
    return text if listed and len(text) <= _MOST_DECLARED else ""


def _written(call: ToolCall) -> str:
    return f'{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {call.arguments}}}'
