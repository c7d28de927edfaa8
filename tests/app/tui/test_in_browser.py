"""What a window in a browser does otherwise than one in a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len, get_character_cell_size

from openchat_local.app.settings.model import load_settings
from openchat_local.app.tui.app import ChatApp
from openchat_local.app.tui.browser_driver import as_xterm_counts
from openchat_local.app.tui.clipboard import copy
from support.window import NO_ENGINE

SPECIAL = {"\u200d", "\ufe0f"}
pieces = st.sampled_from(
    ["👋🏽", "👨‍👩‍👧", "❤️", "🏳️‍🌈", "1️⃣", "☀️", "👩🏽‍🚀", "🇩🇪", "✨",
     "你好", "é", "a", " ", "\n", "\x1b[1;3m"]
)  # fmt: skip


def by_character(text: str) -> int:
    """Cells, as a terminal counts them that looks at one character at a time."""
    return sum(get_character_cell_size(one) for one in text if one not in SPECIAL)


@given(st.lists(pieces, max_size=8).map("".join))
def test_nothing_in_a_row_is_pushed_aside(text: str) -> None:
    assert by_character(as_xterm_counts(text)) == cell_len(text)


def test_words_of_every_script_stay_as_they_are() -> None:
    for text in ("Hello, 你好!", "क्‍ष می‌خواهم", "e\u0301ا", "각 ก็", "\x1b]8;;http://a\x1b\\b"):
        assert as_xterm_counts(text) == text
    assert as_xterm_counts("a👋🏽b") == "a👋b"


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM_PROGRAM", "openchat-local-web")


@pytest.mark.usefixtures("browser")
def test_a_copy_goes_to_the_browser_however_long_it_is(tmp_path: Path) -> None:
    taken: list[str] = []
    assert copy("x" * 100_000, taken.append, tmp_path) == "by the browser"
    assert taken == ["x" * 100_000]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("browser")
def test_keys_that_browsers_keep_have_others_beside_them(home: Path) -> None:
    def keys(**wanted: str) -> dict[str, tuple[str, ...]]:
        app = ChatApp(home, load_settings({"keys": wanted} if wanted else {}), NO_ENGINE)
        return {one.id: one.keys for one in app.all_commands()}

    assert keys()["chat.new"] == ("alt+n", "ctrl+n")
    assert keys()["chat.panel"] == ("alt+t", "ctrl+t")
    assert keys(**{"chat.new": "alt+z"})["chat.new"] == ("alt+z",)
