"""Functions that a client declares and a reply may call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openchat_local.app.server.bodies import ChatBody
from openchat_local.app.server.errors import ApiError, refused
from openchat_local.models.conversation import ToolCall
from openchat_local.models.tools import ToolMarks

_MOST = 128
_NO_PLACE = (
    "tools: this model's chat template has no place for tools, or writes calls in a form that "
    "cannot be read back: leave them out, or serve a model that was trained to call them."
)


@dataclass(frozen=True, slots=True)
class Tools:
    """What may be called: `declared` is the JSON that the template gets, `names` the functions,
    and `marks` how the model writes calls. A reply that must be a call obeys `schema`. Without
    `parallel` the first call counts alone."""

    declared: str = ""
    names: tuple[str, ...] = ()
    marks: ToolMarks | None = None
    schema: dict[str, Any] | None = None
    parallel: bool = True


def tools_of(body: ChatBody, marks: ToolMarks | None) -> Tools:
    """What a request declares, for a model that writes calls between `marks`. Raises ApiError."""
    functions = [_function(tool, f"tools.{n}") for n, tool in enumerate(body.tools or [])]
    wanted = _choice(body.tool_choice, [function["name"] for function in functions])
    if not functions or wanted == "none":
        return Tools()
    if marks is None:
        raise refused(_NO_PLACE, "tools")
    if body.response_format is not None and body.response_format.type != "text":
        raise refused(
            "response_format and tools exclude each other: give one, or tool_choice none.",
            "response_format",
        )
    if len(functions) > _MOST:
        raise refused(f"tools can hold {_MOST} functions at most.", "tools")
    names = tuple(function["name"] for function in functions)
    schema = None
    if wanted != "auto":
        callable_ = [one for one in functions if wanted in ("required", (one["name"],))]
        schema = _schema(callable_, marks)
    declared = json.dumps(declarations(body.tools or []), ensure_ascii=False)
    return Tools(declared, names, marks, schema, body.parallel_tool_calls is not False)


def declarations(tools: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What templates show of tools. Raises ApiError."""
    return [
        {"type": "function", "function": _function(tool, f"tools.{number}")}
        for number, tool in enumerate(tools)
    ]


def _function(tool: Mapping[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type", "function") != "function" or not isinstance(tool.get("function"), dict):
        raise refused(
            f"{where}: give {{'type': 'function', 'function': {{'name': …, 'parameters': …}}}}.",
            where,
        )
    function: dict[str, Any] = tool["function"]
    name, parameters = function.get("name"), function.get("parameters", {})
    if not isinstance(name, str) or not name or len(name) > 64:
        raise refused(f"{where}.function.name: give a name.", f"{where}.function.name")
    if not isinstance(parameters, dict):
        raise refused(
            f"{where}.function.parameters: give a JSON schema.", f"{where}.function.parameters"
        )
    return function


def _choice(choice: Any, names: Sequence[str]) -> str | tuple[str]:
    """none, auto, required, or the one function that must be called."""
    if choice is None:
        return "auto" if names else "none"
    if choice == "none" or (choice == "auto" and not names):
        return "none"
    if choice in ("auto", "required") and names:
        return str(choice)
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if isinstance(name, str) and name in names:
        return (name,)
    raise refused(
        "tool_choice must be none, auto, required, or {'type': 'function', 'function': {'name': …}}"
        " with one of tools.",
        "tool_choice",
    )


def _schema(functions: Sequence[Mapping[str, Any]], marks: ToolMarks) -> dict[str, Any]:
    """That a reply is a call of one of these."""
    shared: dict[str, Any] = {}
    calls = []
    for function in functions:
        parameters = {**(function.get("parameters") or {})} or {"type": "object"}
        # References are to the root of a schema, which this one no longer is.
        shared |= {
            key: parameters.pop(key) for key in ("$defs", "definitions") if key in parameters
        }
        properties = {"name": {"const": function["name"]}, marks.arguments: parameters}
        calls.append(
            {
                "type": "object",
                "properties": properties,
                "required": [*properties],
                "additionalProperties": False,
            }
        )
    if shared and len(calls) > 1:
        raise refused(
            "tools: schemas with $defs can be held for one function alone: name it in tool_choice.",
            "tools",
        )
    return {**calls[0], **shared} if len(calls) == 1 else {"anyOf": calls}


# Calls in messages


def calls_of(given: Any, where: str) -> tuple[ToolCall, ...]:
    """The calls of an earlier reply. Raises ApiError."""
    if not isinstance(given, list):
        raise refused(f"{where}: give a list of calls.", where)
    return tuple(_call(one, f"{where}.{number}") for number, one in enumerate(given))


def _call(given: Any, where: str) -> ToolCall:
    function = given.get("function") if isinstance(given, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise refused(
            f"{where}: give {{'id': …, 'type': 'function', 'function': {{'name': …, 'arguments': …}}}}.",  # noqa: E501
            where,
        )
    arguments = function.get("arguments", {})
    try:
        value = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        value, text = None, ""
    if not isinstance(value, dict):
        raise _no_object(f"{where}.function.arguments")
    id = given.get("id")
    return ToolCall(function["name"], text, id if isinstance(id, str) else "")


def _no_object(where: str) -> ApiError:
    return refused(f"{where}: give a JSON object as a string.", where)
