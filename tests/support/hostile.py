"""Text that a terminal, Rich or Textual might obey, and how to tell that none did."""

from __future__ import annotations

import unicodedata
from typing import Any

from hypothesis import strategies as st
from textual.app import App

PIECES = (
    "\x1b[31m", "\x1b]0;title\x07", "\x1b]52;c;ZQ==\x07", "\x9b2J", "\x90q", "\x00", "\x08", "\r",
    "\x7f", "\u202e", "\u2066", "\u200f", "\t", "\n", "[red]", "[/]", "[/nothing]",
    "[link=file:///x]", "[@click=app.quit]", "$text", "\\[", "{}", "`", "你好", "e\u0301",
    "👩‍👩‍👧", "word", " ",
)  # fmt: skip
HOSTILE = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)


def obeyed(text: str) -> list[str]:
    """The characters of `text` that a terminal would act on rather than show."""
    return [
        character
        for character in text
        if unicodedata.category(character) in ("Cc", "Cs")
        or unicodedata.bidirectional(character)
        in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
        or character in "\u200e\u200f\u061c"
    ]


def check_screen(app: App[Any]) -> None:
    """Nothing of what the whole screen is painted with is for the terminal to obey, and
    nothing on it can be clicked but what this program has put there."""
    for strip in app.screen._compositor.render_strips():
        for segment in strip:
            assert segment.control is None
            assert not obeyed(segment.text), ascii(segment.text)
            if segment.style is not None:
                assert not segment.style.link
                assert "@click" not in segment.style.meta
