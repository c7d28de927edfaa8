"""Text is cut into rows that fit, and nothing of it is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from openchat_local.app.tui.markdown.rows import Line, Row, fold, fold_height, wrap

TEXT = st.text(st.sampled_from("ab ,.é中文字，。🎉👩e\u0301-"), max_size=120)


def text_of(rows: list[Row]) -> list[str]:
    return ["".join(text for text, _ in row) for row in rows]


def test_a_paragraph_breaks_between_words() -> None:
    rows = wrap(Line((("one two three", ""),)), 8)
    assert text_of(rows) == ["one two", "three"]


def test_styles_stay_with_their_words() -> None:
    rows = wrap(Line((("one ", ""), ("two three", "strong"))), 8)
    assert rows == [(("one ", ""), ("two", "strong")), (("three", "strong"),)]


def test_chinese_breaks_between_characters_but_never_before_a_full_stop() -> None:
    assert text_of(wrap(Line((("你好世界。再见", ""),)), 8)) == ["你好世", "界。再见"]


def test_a_word_that_is_too_long_is_cut() -> None:
    assert text_of(wrap(Line((("abcdefghij", ""),)), 4)) == ["abcd", "efgh", "ij"]


def test_further_rows_hang_under_the_first() -> None:
    rows = wrap(Line((("one two", ""),), "• ", "  "), 6)
    assert text_of(rows) == ["• one", "  two"]


@given(TEXT, st.integers(2, 30))
def test_no_row_is_wider_than_it_may_be(text: str, width: int) -> None:
    rows = text_of(wrap(Line(((text, ""),)), width))
    assert all(cell_len(row.rstrip()) <= width for row in rows)
    assert "".join(rows).replace(" ", "") == text.replace(" ", "")


@given(TEXT, st.integers(2, 30))
def test_folded_code_keeps_every_character(text: str, width: int) -> None:
    rows = fold(((text, ""),), width)
    assert "".join(text for row in rows for text, style in row if style != "prefix") == text
    assert all(cell_len(row) <= width for row in text_of(rows))
    assert len(rows) == fold_height(text, width)


@pytest.mark.parametrize(
    ("code", "rows"),
    [
        ("    result = compute(alpha)", ["    result = ", "      ↪ compute(alpha)"]),
        ("    results = compute(alpha)", ["    results = ", "      ↪ compute(alpha)"]),
        ("compute(alpha)(betas,gammas,deltas)", ["compute(alpha)(betas,", "  ↪ gammas,deltas)"]),
        ("words in a comment of this program", ["words in a comment of ", "  ↪ this program"]),
        ("x" * 30, ["x" * 22, "  ↪ " + "x" * 8]),
        ("漢字漢字漢字漢字漢字漢字漢字", ["漢字漢字漢字漢字漢字漢", "  ↪ 字漢字"]),
        (" " * 20 + "deep = nested", [" " * 20 + "de", " " * 7 + "↪ ep = nested"]),
    ],
)
def test_long_code_is_broken_where_code_may_be_marked_and_indented(
    code: str, rows: list[str]
) -> None:
    assert text_of(fold(((code, ""),), 22)) == rows


def test_code_in_a_list_is_broken_as_code_is() -> None:
    line = Line((("call(alpha, beta, gamma)", "code"),), "1. ", "   ", code=True)
    assert text_of(wrap(line, 24)) == ["1. call(alpha, beta, ", "     ↪ gamma)"]


@pytest.mark.parametrize("width", [1, 2, 3])
def test_even_a_sliver_of_a_window_shows_something(width: int) -> None:
    assert wrap(Line((("中文 text", ""),), "• ", "  "), width)
