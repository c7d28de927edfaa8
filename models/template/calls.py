"""What a template makes of functions that are declared, called and have answered, found by asking
it: how its model writes calls follows from how earlier calls are shown to it."""

from __future__ import annotations

import json

from openchat_local.models.conversation import Message, ToolCall
from openchat_local.models.errors import TemplateError
from openchat_local.models.template.marked import pieces
from openchat_local.models.template.sandbox import EmbeddedTemplate
from openchat_local.models.tools import ToolMarks

_NAME, _ARGUMENTS, _RESULT = "function_of_mine", {"argument_of_mine": "a value"}, "a result of mine"
_CALL = ToolCall(_NAME, json.dumps(_ARGUMENTS), "callNum01")
_TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": "another_function",
                "description": "It does nothing.",
                "parameters": {"type": "object", "properties": {}},
            },
        }
    ]
)
_ASKED = (0, Message("user", "a"))
_CALLED = (1, Message("assistant", "", calls=(_CALL,)))
_ANSWERED = (2, Message("user", _RESULT, result_of=_CALL))


def tool_marks_of(embedded: EmbeddedTemplate) -> ToolMarks | None:
    """How calls are written; None where the template leaves out what is declared, called or
    answered, or writes calls in no form that can be read back (see `models.tools`)."""
    if "tools" not in embedded.source:
        return None
    try:
        request = embedded.marked([_ASKED], generate=True, tools=_TOOLS)
        called = embedded.marked([_ASKED, _CALLED], generate=False, tools=_TOOLS)
        whole = embedded.marked([_ASKED, _CALLED, _ANSWERED], generate=True, tools=_TOOLS)
    except TemplateError:
        return None
    if "another_function" not in request or _RESULT not in whole:
        return None
    plain = ["".join(text for text, _ in pieces(prompt)) for prompt in (request, called)]
    return _marks_in(plain[1], _start(*plain))


def _marks_in(called: str, start: int) -> ToolMarks | None:
    found = _first_call(called, start)
    if found is None:
        return None
    begin, end, arguments = found
    before, behind = called[start:begin], called[end:]
    listed = before.rstrip().endswith("[") and behind.lstrip().startswith("]")
    mark = before.rstrip().removesuffix("[").rstrip() if listed else before
    word = (mark.split() or [""])[-1]  # what stands before it is of the header, or no thoughts
    opens = before[before.rindex(word) :] if word else ""
    closes = _closing(word, behind)
    if listed:
        closes = "]" + _closing(word, behind.lstrip().removeprefix("]"))
    return ToolMarks(opens, closes, arguments, listed)


def _first_call(text: str, start: int) -> tuple[int, int, str] | None:
    """Where the JSON object of the call begins and ends, and what its arguments are under."""
    at = text.find("{", start)
    while at >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, at)
        except ValueError:
            value, end = None, at
        if isinstance(value, dict) and value.get("name") == _NAME:
            key = next((k for k in ("arguments", "parameters") if value.get(k) == _ARGUMENTS), None)
            return None if key is None else (at, end, key)
        at = text.find("{", at + 1)
    return None


def _closing(opens: str, behind: str) -> str:
    """What stands behind a call that a mark has opened: the counterpart of that mark, where it is
    one that has any; else the end of the turn does it."""
    name = opens.strip("<>[]|")
    for closes in (f"</{name}>", f"[/{name}]", f"<|/{name}|>"):
        if opens and behind.lstrip().startswith(closes):
            return behind[: behind.index(closes)] + closes
    return ""


def _start(request: str, called: str) -> int:
    """Where the reply begins in `called`. A mark that begins as another does, with which the
    request opens thoughts, is the reply's all the same."""
    pairs = enumerate(zip(request, called, strict=False))
    at = next((at for at, (a, b) in pairs if a != b), len(request))
    while 0 < at < len(request) and not called[at - 1].isspace():
        at -= 1
    return at
