"""Numbers as they are written, read as exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.evaluation.answers.numbers import (
    find_numbers,
    last_number,
    read_number,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        (" 42 ", 42),
        ("-3", -3),
        ("−3", -3),
        ("+3", 3),
        ("007", 7),
        ("0.50", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("$1,234.50", Fraction(2469, 2)),
        ("-$5", -5),
        ("$-5", -5),
        ("\\$18", 18),
        ("€ 3", 3),
        ("1{,}234", 1234),
        ("1\\,234", 1234),
        ("1\u202f234\u202f567", 1234567),
        ("3/4", Fraction(3, 4)),
        ("3 / 4", Fraction(3, 4)),
        ("-3/4", Fraction(-3, 4)),
        ("1 1/2", Fraction(3, 2)),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("-\\dfrac{3}{4}", Fraction(-3, 4)),
        ("\\frac{-3}{4}", Fraction(-3, 4)),
        ("\\frac12", Fraction(1, 2)),
        ("2\\frac{1}{2}", Fraction(5, 2)),
        ("1.5e3", 1500),
        ("1E-2", Fraction(1, 100)),
        ("1.2 × 10^5", 120000),
        ("1.2\\times10^{-3}", Fraction(3, 2500)),
    ],
)
def test_a_number_is_read_exactly(text: str, value: Fraction | int) -> None:
    number = read_number(text)
    assert number is not None
    assert number.value == value
    assert not number.percent


@pytest.mark.parametrize(
    "text",
    ["", " ", "abc", "5 apples", "1/0", "\\frac{1}{0}", "1,23", "3,14", "1.2.3", "1e999", "9" * 400,
     "x2", "--3", "½ and", "1/2/3", "nan", "inf", "0x10"],
)  # fmt: skip
def test_what_is_no_number_is_none(text: str) -> None:
    assert read_number(text) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I had 3 apples and 4.5 pears.", [3, Fraction(9, 2)]),
        ("It is 42.", [42]),
        ("20/4=5", [5, 5]),
        ("10-5", [10, 5]),
        ("16 - 3 = 13", [16, 3, 13]),
        ("between 3–5", [3, 5]),
        ("x = -7", [-7]),
        ("(3, 14)", [3, 14]),
        ("3,14", [3, 14]),
        ("12,345", [12345]),
        ("1,2345", [1, 2345]),
        ("GPT4 and x2 cost 7", [7]),
        ("the 5th of 10km", [5, 10]),
        ("version 3.11.2", [Fraction(311, 100)]),
        ("at 10:30", [10, 30]),
        ("5*-3", [5, -3]),
        ("nothing", []),
    ],
)
def test_numbers_are_found_in_text(text: str, found: list[Fraction | int]) -> None:
    assert [number.value for number in find_numbers(text)] == found
    last = last_number(text)
    assert (None if last is None else last.value) == (found[-1] if found else None)


def test_a_percent_sign_may_mean_hundredths() -> None:
    percent, whole, part, other = map(read_number, ("50%", "50", "0.5", "0.05"))
    assert percent
    assert whole
    assert part
    assert other
    assert percent.percent
    assert percent.is_same(whole)
    assert whole.is_same(percent)
    assert percent.is_same(part)
    assert part.is_same(percent)
    assert not percent.is_same(other)
    assert not whole.is_same(part)
    escaped = read_number("50\\%")
    assert escaped is not None
    assert escaped.is_same(percent)


def test_nothing_is_rounded() -> None:
    third, near = read_number("1/3"), read_number("0.3333333333333333333")
    assert third
    assert near
    assert not third.is_same(near)
    tenth, sum_of = read_number("0.3"), read_number("0.30000000000000004")
    assert tenth
    assert sum_of
    assert not tenth.is_same(sum_of)


@given(st.integers(-(10**40), 10**40))
def test_every_integer_is_read_in_every_form(value: int) -> None:
    for text in (str(value), f"{value:,}", f"{value}.0", f"{value}/1", f" {value} "):
        number = read_number(text)
        assert number is not None, text
        assert number.value == value, text


@given(st.fractions(max_denominator=10**9))
def test_every_fraction_is_read_in_every_form(value: Fraction) -> None:
    sign, size = ("-" if value < 0 else ""), abs(value)
    latex = f"{sign}\\frac{{{size.numerator}}}{{{size.denominator}}}"
    for text in (f"{value.numerator}/{value.denominator}", latex):
        number = read_number(text)
        assert number is not None, text
        assert number.value == value, text


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12)))
def test_every_decimal_is_read_exactly(value: object) -> None:
    number = read_number(f"{value:f}")
    assert number is not None
    assert number.value == Fraction(str(value))


@given(st.integers(-(10**9), 10**9), st.text(st.characters(exclude_categories=["N", "Cs"])))
def test_a_number_behind_any_words_is_the_last(value: int, words: str) -> None:
    number = last_number(f"{words} is {value}")
    assert number is not None
    assert number.value == value


@given(st.text("0123456789.,-+/%$e \\frac{}^×"))
def test_any_text_is_read_or_is_not(text: str) -> None:
    for number in find_numbers(text):
        assert 0 <= number.start < number.end <= len(text)
        assert isinstance(number.value, Fraction)


@pytest.mark.parametrize(
    ("part", "last"),
    [("9", None), ("1,", 1), ("1 ", 1), ("\\frac{1}", 1), ("1/", 1), ("1,234", 234)],
)
def test_long_texts_are_read_to_their_end(part: str, last: int | None) -> None:
    number = last_number(part * 20_000)  # would take hours with a pattern that goes back and forth
    assert (None if number is None else number.value) == last
