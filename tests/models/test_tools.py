"""Calls in replies, told from text however the reply is cut into pieces."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.models.tools import Argued, Begun, Piece, ToolMarks, ToolReader

TAGGED = ToolMarks("<tool_call>\n", "\n</tool_call>", "arguments")
BARE = ToolMarks("", "", "parameters")
LISTED = ToolMarks("[TOOL_CALLS] [", "]", "arguments", listed=True)
BOTH = ToolMarks("<TOOLCALL>[", "]</TOOLCALL>", "arguments", listed=True)
NAMES = ("weather", "add")
WEATHER = '{"city": "Łódź [}] \\"x\\" 🎉", "days": [1, {"a": "}"}]}'


def joined(pieces: list[Piece]) -> tuple[str, list[tuple[str, str]]]:
    """The text, and the calls."""
    text, calls = "", list[tuple[str, str]]()
    for piece in pieces:
        if isinstance(piece, Begun):
            calls.append((piece.name, ""))
        elif isinstance(piece, Argued):
            calls[-1] = (calls[-1][0], calls[-1][1] + piece.json)
        else:
            text += piece
    return text, calls


def read(marks: ToolMarks | None, text: str, *, opened: bool = False) -> object:
    reader = ToolReader(marks, NAMES, opened=opened)
    return joined([*reader.feed(text), *reader.finish()])


def call(name: str, arguments: str, key: str = "arguments") -> str:
    return f'{{"name": "{name}", "{key}": {arguments}}}'


ONE = f"<tool_call>\n{call('weather', WEATHER)}\n</tool_call>"
UNKNOWN = f"<tool_call>{call('other', '{}')}</tool_call>"
NO_JSON = "Say <tool_call> then {} and </tool_call>."
BARE_JSON = '{"answer": {"name": "add"}} it is'
LATE = f"So: {call('add', '{}', 'parameters')}"
WITH_ID = call("add", "{}")[:-1] + ', "id": "x}"}'
REPLIES: dict[str, tuple[ToolMarks | None, str, object]] = {
    "one": (TAGGED, ONE, ("", [("weather", WEATHER)])),
    "said first": (TAGGED, f"I look.\n\n{ONE}", ("I look.", [("weather", WEATHER)])),
    "two": (
        TAGGED, f"{ONE}\n<tool_call>\n{call('add', '{}')}\n</tool_call>",
        ("", [("weather", WEATHER), ("add", "{}")]),
    ),
    "two in one": (
        TAGGED, f"<tool_call>\n{call('add', '{}')}\n{call('weather', WEATHER)}\n</tool_call>",
        ("", [("add", "{}"), ("weather", WEATHER)]),
    ),
    "other order": (
        TAGGED, '<tool_call>{"arguments": {"a": 1}, "name": "add"}</tool_call>',
        ("", [("add", '{"a": 1}')]),
    ),
    "no mark behind": (TAGGED, f"<tool_call>{call('add', '{}')}", ("", [("add", "{}")])),
    "cut off": (
        TAGGED, '<tool_call>\n{"name": "add", "arguments": {"a": "b',
        ("", [("add", '{"a": "b')]),
    ),
    "unknown": (TAGGED, UNKNOWN, (UNKNOWN, [])),
    "no json": (TAGGED, NO_JSON, (NO_JSON, [])),
    "no call": (TAGGED, " Two < three. \n", (" Two < three. \n", [])),
    "twice opened": (TAGGED, f"<tool_call> {ONE}", ("<tool_call>", [("weather", WEATHER)])),
    "bare": (BARE, call("add", '{"a": 1}', "parameters"), ("", [("add", '{"a": 1}')])),
    "two bare": (
        BARE, f"\n{call('add', '{}', 'parameters')}; {call('weather', '{}', 'parameters')}",
        ("", [("add", "{}"), ("weather", "{}")]),
    ),
    "bare json": (BARE, BARE_JSON, (BARE_JSON, [])),
    "not at the head": (BARE, LATE, (LATE, [])),
    "listed": (
        LISTED, f"[TOOL_CALLS] [{WITH_ID}, {call('weather', WEATHER)}]",
        ("", [("add", "{}"), ("weather", WEATHER)]),
    ),
    "list between marks": (
        BOTH, f"<TOOLCALL>[{call('add', '{}')}]</TOOLCALL>", ("", [("add", "{}")]),
    ),
    "empty list": (BOTH, "<TOOLCALL>[]</TOOLCALL> No.", (" No.", [])),
    "one of two": (
        LISTED, f"[TOOL_CALLS] [{call('add', '{}')}, no", (", no", [("add", "{}")]),
    ),
    "no marks": (None, ONE, (ONE, [])),
}  # fmt: skip


@pytest.mark.parametrize("name", REPLIES)
def test_calls_are_told_from_text(name: str) -> None:
    marks, text, expected = REPLIES[name]
    assert read(marks, text) == expected


@given(st.sampled_from(sorted(REPLIES)), st.lists(st.integers(0, 200), max_size=8))
def test_where_a_reply_is_cut_makes_no_difference(name: str, cuts: list[int]) -> None:
    marks, text, expected = REPLIES[name]
    reader = ToolReader(marks, NAMES)
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [piece for a, b in itertools.pairwise(places) for piece in reader.feed(text[a:b])]
    assert joined([*pieces, *reader.finish()]) == expected


@given(st.text('<tool_call>{}"name: , \\arguments', max_size=60))
def test_nothing_is_lost_of_what_is_no_call(text: str) -> None:
    for marks in (TAGGED, BARE):
        assert read(marks, text) == (text, [])


def test_a_call_that_the_prompt_has_opened() -> None:
    for marks, key in ((TAGGED, "arguments"), (BARE, "parameters"), (LISTED, "arguments")):
        assert read(marks, call("add", WEATHER, key), opened=True) == ("", [("add", WEATHER)])
    assert json.loads(WEATHER)
