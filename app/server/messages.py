"""A reply's text as the parts of an OpenAI message: what it thought, says, and wants called."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from openchat_local.app.server.tools import Tools
from openchat_local.models.thoughts import Part, ThoughtMarks, ThoughtReader
from openchat_local.models.tools import Argued, Begun, ToolReader

Delta = dict[str, Any]


class MessageReader:
    """Makes deltas of a reply, as a stream sends them. All of them together are the message."""

    def __init__(self, thoughts: ThoughtMarks | None, tools: Tools) -> None:
        self._thoughts = ThoughtReader(thoughts)
        self._tools = ToolReader(tools.marks, tools.names, opened=tools.schema is not None)
        self._parallel = tools.parallel
        self._index = -1  # of the call that is being told

    @property
    def calls(self) -> bool:
        """Whether it wants anything called."""
        return self._tools.calls > 0

    def feed(self, text: str) -> Iterator[Delta]:
        """What is new with the next piece of the reply."""
        yield from self._deltas(self._thoughts.feed(text))

    def finish(self) -> Iterator[Delta]:
        """What was held back at its end."""
        yield from self._deltas(self._thoughts.finish())
        yield from self._told(self._tools.finish())

    def _deltas(self, parts: Sequence[Part]) -> Iterator[Delta]:
        for part in parts:
            if part.thought:
                yield {"reasoning_content": part.text}
            else:
                yield from self._told(self._tools.feed(part.text))

    def _told(self, pieces: Sequence[str | Begun | Argued]) -> Iterator[Delta]:
        for piece in pieces:
            if isinstance(piece, str):
                yield {"content": piece}
                continue
            if isinstance(piece, Begun):
                self._index += 1
            if self._index > 0 and not self._parallel:
                continue
            if isinstance(piece, Begun):
                call = {"id": secrets.token_hex(5)[:9], "type": "function"}
                function = {"name": piece.name, "arguments": ""}
            else:
                call, function = {}, {"arguments": piece.json}
            yield {"tool_calls": [{"index": self._index, **call, "function": function}]}


def message_of(text: str, thoughts: ThoughtMarks | None, tools: Tools) -> dict[str, Any]:
    """The message of a whole reply."""
    reader = MessageReader(thoughts, tools)
    said, thought, calls = "", "", list[dict[str, Any]]()
    for delta in (*reader.feed(text), *reader.finish()):
        said += delta.get("content", "")
        thought += delta.get("reasoning_content", "")
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                calls.append({name: call[name] for name in ("id", "type", "function")})
            else:
                calls[-1]["function"]["arguments"] += call["function"]["arguments"]
    message: dict[str, Any] = {"role": "assistant", "content": said, "refusal": None}
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message |= {"content": said or None, "tool_calls": calls}
    return message
