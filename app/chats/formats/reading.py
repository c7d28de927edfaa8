"""The bytes of a file → the JSON documents in it: one, a list, lines, or one after another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

_NEXT_DOCUMENT = re.compile(r"^[{\[]", re.MULTILINE)
_GAP = re.compile(r"[\s,\x1e]*")  # commas of a list without brackets, RFC 7464's separators


class Document(NamedTuple):
    """A JSON value that is one chat, and where in the file it begins ("line 3, "); or, in its
    place, why it cannot be read."""

    place: str
    value: Any = None
    fault: str | None = None


def documents(data: bytes) -> Iterator[Document]:
    """Every document in the bytes of a file, in UTF-8, UTF-16 or UTF-32."""
    encoding = json.detect_encoding(data)
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        yield Document("", fault=f"byte {error.start} is not {name}")
        return
    if not text.strip():
        return
    try:
        value = _parse(text)
    except ValueError as error:
        yield from _several(text, error)
        return
    if isinstance(value, list) and not _is_list_of_turns(value):
        yield from (Document(f"[{i}]", each) for i, each in enumerate(value))
    else:
        yield Document("", value)


def _several(text: str, error: ValueError) -> Iterator[Document]:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    # JSONL is recognised by a first line that is complete in itself.
    if len(lines) > 1 and _is_json(lines[0][1]):
        for number, line in lines:
            yield from _of_line(number, line)
        return
    first = _decoded(text, 0)
    if isinstance(first, ValueError):
        yield Document("", fault=f"{_json_place(error)}it is not JSON ({_json_fault(error)})")
    else:
        yield from _concatenated(text)


def _of_line(number: int, line: str) -> Iterator[Document]:
    place = f"line {number}, "
    try:
        yield Document(place, _parse(line))
    except ValueError as error:
        yield Document(place, fault=f"line {number} is not JSON ({_json_fault(error)})")


def _concatenated(text: str) -> Iterator[Document]:
    """Documents one after another, with or without space between; after one that is broken,
    those from the next line on that begins with one."""
    position = _after_gap(text, 0)
    line = 1 + text.count("\n", 0, position)
    while position < len(text):
        decoded = _decoded(text, position)
        if isinstance(decoded, ValueError):
            yield Document("", fault=f"line {line}: it is not JSON ({_json_fault(decoded)})")
            following = _NEXT_DOCUMENT.search(text, text.find("\n", position) + 1 or len(text))
            end = following.start() if following else len(text)
        else:
            value, end = decoded
            yield Document(f"line {line}, ", value)
            end = _after_gap(text, end)
        line += text.count("\n", position, end)
        position = end


def _after_gap(text: str, position: int) -> int:
    gap = _GAP.match(text, position)
    return gap.end() if gap else position


def _decoded(text: str, position: int) -> tuple[Any, int] | ValueError:
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    try:
        return decoder.raw_decode(text, _after_gap(text, position))
    except RecursionError:
        return ValueError("it is nested too deeply")
    except ValueError as error:
        return error


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


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
    return has_turns(value, "role") or has_turns(value, "from")


def has_turns(turns: list[Any], name: str) -> bool:
    """Whether a list is one of turns that call their role so."""
    return bool(turns) and isinstance(turns[0], dict) and name in turns[0]
