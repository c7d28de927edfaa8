"""No text of a chat steers the terminal."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from openchat_local.app.printable import printable


def test_control_characters_become_visible() -> None:
    assert printable("\x1b]0;owned\x07\x1b[2J") == "␛]0;owned␇␛[2J"
    assert printable("a\rb\x7f\x9b31m") == "a␍b␡<U+009B>31m"
    assert printable("safe \u202egnp.exe\u2066") == "safe <U+202E>gnp.exe<U+2066>"


def test_ordinary_text_stays_as_it_is() -> None:
    text = "Ünïcödé\n\tवह 東京 שלום 👩‍👩‍👧 “quotes” ␛"
    assert printable(text) == text
    assert printable("dos\r\nline") == "dos\nline"


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = printable(text + "".join(map(chr, range(0x100))))
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    assert not set(shown) & set(
        "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
    shown.encode("utf-8")
