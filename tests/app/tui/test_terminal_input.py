"""What the terminal sends, as it sends it: keys, pastes, and what is neither."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual import events

from openchat_local.app.tui.terminal import PASTE_END, PASTE_START, TerminalParser

NASTY = "\x1b[31mred\x1b]52;c;ZXZpbA==\x07 \x1b[13;2:1u\r\n/quit now\r\x1b[200~\x03\x11\x1b"


def heard(*pieces: str) -> list[str]:
    """What the pieces of input are: keys by their names, pastes by their text in quotes."""
    parser = TerminalParser()
    messages = [message for piece in pieces for message in parser.feed(piece)]
    return [
        repr(message.text) if isinstance(message, events.Paste) else message.key
        for message in messages
        if isinstance(message, (events.Paste, events.Key))
    ]


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        ("\x1b[13;2:1u", ["shift+enter"]),
        ("\x1b[13;2:3u", []),  # let go
        ("\x1b[13;2u", ["shift+enter"]),
        ("\x1b[13;3u", ["alt+enter"]),
        ("\x1b[27;2;13~", ["shift+enter"]),
        ("\x1b[27;5;120~", ["ctrl+x"]),
        ("\x1b[27;2;65~", ["A"]),
        ("\x1b[97:65;2;65u", ["A"]),
        ("\x1b[97;;97u", ["a"]),
        ("\x1b[1;5:2A", ["ctrl+up"]),
        ("\x1b[3;5:1~", ["ctrl+delete"]),
        ("\x1b[1;1:3A", []),
        ("\x1b[55296;1;55296u", []),
        ("\x1b[1114112u", []),
        ("\x1b[99999999999999999999u", []),
        ("\x1b\r", ["alt+enter"]),
        ("half a prompt\x1b\r"[-4:] + "x", ["p", "t", "alt+enter", "x"]),
        ("\x1b\n", ["alt+enter"]),
        ("\x1b[A\x1bOP\x1b[3~a\r\x0a", ["up", "f1", "delete", "a", "enter", "ctrl+j"]),
    ],
)
def test_keys_are_what_they_were_pressed_as(sent: str, keys: list[str]) -> None:
    assert heard(sent) == keys


@given(st.text(), st.lists(st.integers(0, 120), max_size=8))
def test_what_lies_between_the_marks_is_one_paste(text: str, cuts: list[int]) -> None:
    pasted = (NASTY + text).replace(PASTE_END, "").replace("\x00", "")
    sent = f"a{PASTE_START}{pasted}{PASTE_END}b\r"
    bounds = [0, *sorted(cuts), len(sent)]
    pieces = [sent[start:end] for start, end in pairwise(bounds)]
    assert heard(*filter(None, pieces)) == ["a", repr(pasted), "b", "enter"]


def test_a_mark_that_comes_letter_by_letter_is_one() -> None:
    sent = (
        f"{PASTE_START}one{PASTE_END}\x1b{PASTE_START}{PASTE_END}{PASTE_START}\x1b[201{PASTE_END}"
    )
    assert heard(*sent) == ["'one'", "escape", "''", r"'\x1b[201'"]


@given(st.text("\x1b[]<>?;:0123456789uMmR~ABFHIOPc$yt\r\n\x07\x9bé", max_size=60))
def test_nothing_that_a_terminal_sends_is_too_much(sent: str) -> None:
    parser = TerminalParser()
    messages = [*parser.feed(f"{sent}q"), *parser.feed(PASTE_END), *parser.feed("q")]
    for message in messages:
        if isinstance(message, events.Key):
            (message.character or "").encode()
