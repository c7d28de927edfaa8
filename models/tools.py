"""Replies that want functions called, in the form that their model's template writes calls in.

Most models write a JSON object for each call, with the function's name and its arguments: between
marks, in a list behind one, or with nothing around it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from openchat_local.models.thoughts import overlap


@dataclass(frozen=True, slots=True)
class ToolMarks:
    """What stands before a call and behind it, "" where nothing does; under what name a call has
    its `arguments`; and whether calls are `listed`: `opens` begins a list then."""

    opens: str
    closes: str
    arguments: str
    listed: bool = False


class Begun(NamedTuple):
    """A call of this function begins."""

    name: str


class Argued(NamedTuple):
    """The next piece of the arguments, JSON as the model wrote it, of the call that has begun."""

    json: str


Piece = str | Begun | Argued
"""Text that is no call, or a part of one."""
_WHITE = " \t\r\n"


class ToolReader:
    """Tells calls from text while a reply is written. However it is cut into pieces, the texts, the
    calls and their arguments are the same. What is like a call, but no JSON object or of no
    function of `names`, is text."""

    def __init__(
        self, marks: ToolMarks | None, names: Collection[str], *, opened: bool = False
    ) -> None:
        """Without marks all is text. `opened` where the prompt has opened the first call."""
        self.calls = 0
        self._marks = marks
        self._names = names
        self._place: Literal["text", "call", "arguments", "behind"] = "call" if opened else "text"
        self._held = ""
        self._mark = ""  # that the reply itself has opened a call with
        self._may_begin = True  # a call without a mark: at the head, or behind another
        self._object = _Object()  # the arguments, or what stands behind them in the call
        self._list_over = False
        if marks is not None:
            self._opening, self._closing = marks.opens.strip(), marks.closes.strip()
            if marks.listed:
                self._opening = self._opening.removesuffix("[").rstrip()
                self._closing = self._closing.removeprefix("]").lstrip()
            self._begins = re.compile(
                rf'\{{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"{marks.arguments}"\s*:\s*(?=\{{)'
            )

    def feed(self, text: str) -> list[Piece]:
        """What can be told of the reply so far."""
        if self._marks is None:
            return [text] if text else []
        self._held += text
        return [*self._pieces()]

    def finish(self) -> list[Piece]:
        """What was held back at the end of the reply. A call that breaks off stays as it is."""
        held, self._held = self._held, ""
        if self._place == "call":
            return [self._mark + held] if (self._mark + held).strip() and not self.calls else []
        if self._place == "text" and (held.strip(_WHITE) or not self.calls):
            return [held] if held else []
        return []

    def _pieces(self) -> Iterator[Piece]:
        before: tuple[str, str] | None = None
        while self._held and before != (self._place, self._held):
            before = self._place, self._held
            match self._place:
                case "text":
                    yield from self._text()
                case "call":
                    yield from self._call()
                case "arguments":
                    yield from self._arguments()
                case "behind":
                    self._behind()

    def _text(self) -> Iterator[Piece]:
        """Text, as far as no call may begin in it."""
        held, opening = self._held, self._opening
        if opening:
            at = held.find(opening)
            end = at if at >= 0 else len(held) - overlap(held, opening)
            said = held[:end].rstrip(_WHITE)
        else:  # then the whole reply is calls
            begun = held.lstrip(_WHITE + (";" if self.calls else ""))
            at = len(held) - len(begun) if begun.startswith("{") and self._may_begin else -1
            said = "" if at >= 0 or (not begun and self._may_begin) else held
        if at >= 0:
            end, self._list_over = at + len(opening), False
            self._mark, self._held, self._place = held[len(said) : end], held[end:], "call"
        else:
            self._held = held[len(said) :]
        if said:
            self._may_begin = False
            yield said

    def _call(self) -> Iterator[Piece]:
        """A call, from its first brace on."""
        assert self._marks is not None
        listed = self._marks.listed
        held = self._held.lstrip(_WHITE + "[," if listed else _WHITE)
        if listed and held.startswith("]"):
            self._held, self._place, self._list_over = held[1:], "behind", True
        elif found := self._begins.match(held):
            if (name := _json_text(found[1])) in self._names:
                yield from self._begin(name, held[found.end() :], "arguments", _Object())
            else:
                yield from self._no_call()
        elif held and not held.startswith("{"):
            yield from self._no_call()
        elif (end := _Object().end(held)) > 0:  # written in another order
            call = _json_object(held[:end])
            called, arguments = call.get("name"), call.get(self._marks.arguments)
            if isinstance(called, str) and called in self._names and isinstance(arguments, dict):
                yield from self._begin(called, held[end:], "behind", _Object(over=True))
                yield Argued(json.dumps(arguments, ensure_ascii=False))
            else:
                yield from self._no_call()

    def _begin(
        self, name: str, rest: str, place: Literal["arguments", "behind"], inside: _Object
    ) -> Iterator[Piece]:
        self.calls += 1
        self._held, self._place, self._object, self._mark = rest, place, inside, ""
        yield Begun(name)

    def _no_call(self) -> Iterator[Piece]:
        """What seemed to be one is text, from its mark on."""
        self._place, self._may_begin = "text", False
        mark, self._mark = self._mark, ""
        if mark:
            yield mark

    def _arguments(self) -> Iterator[Piece]:
        end = self._object.end(self._held)
        piece = self._held if end < 0 else self._held[:end]
        self._held = self._held[len(piece) :]
        if end >= 0:
            self._place, self._object = "behind", _Object(depth=1)  # the call's own brace
        yield Argued(piece)

    def _behind(self) -> None:
        """The rest of a call, and the mark behind it."""
        assert self._marks is not None
        if not self._object.over and not self._list_over:
            end = self._object.end(self._held)
            self._held = "" if end < 0 else self._held[end:]
            return
        held = self._held.lstrip(_WHITE)
        listed = self._marks.listed and not self._list_over
        closing = "" if listed else self._closing
        if held.startswith(closing):
            self._held = held[len(closing) :]
        elif closing.startswith(held):
            return
        more = listed or (closing and held.startswith("{"))
        self._place = "call" if more else "text"


class _Object:
    """Where a JSON object ends that is read piece by piece."""

    def __init__(self, *, depth: int = 0, over: bool = False) -> None:
        self.over = over
        self._depth = depth
        self._in_text = self._escaped = False

    def end(self, text: str) -> int:
        """The position behind its last brace; -1 where that is still to come."""
        for at, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_text:
                self._escaped = character == "\\"
                self._in_text = character != '"'
            elif character == '"':
                self._in_text = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    self.over = True
                    return at + 1
        return -1


def _json_text(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return ""


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
