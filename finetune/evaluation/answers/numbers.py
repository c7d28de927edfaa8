"""Numbers as people and models write them, as exact fractions: never as floating point.

Understood: a sign; a currency before the digits; thousands separated by commas (or LaTeX's, or
thin spaces); decimals with a point; ``1.5e3`` and ``1.5 × 10^3``; fractions (``3/4``, ``1 1/2``,
``\\frac{3}{4}``); a percent sign. A comma that separates no thousands ends a number: "3,14" are
two. Digits that a letter stands before ("x2") are a name's. Nothing is rounded: 0.33 is not 1/3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

_MOST_DIGITS = 200  # of one number; what is longer is none
_MOST_EXPONENT = 300

_DIGITS = r"(?:\d{1,3}(?:(?:,|\{,\}|\\,|\\!|,\\!|[\u00a0\u202f\u2009])\d{3})+(?!\d)|\d+)"
_NUMBER = re.compile(
    rf"""
    (?<![A-Za-z_\d])(?<!\d\.)
    (?P<sign>(?<![)\]}}])[-+\u2212\u2013](?=[\d.\\$€£¥₹]))?
    (?:\\?[$€£¥₹]\s?)?
    (?P<late>[-\u2212](?=[\d.\\]))?
    (?:
      (?:(?P<whole>\d+)\s?)?\\[dt]?frac\s?(?:
        {{\s?(?P<over>[-\u2212]?\d+)\s?}}\s?{{\s?(?P<under>\d+)\s?}}
        |(?P<over1>\d)\s?(?P<under1>\d))
      |(?:(?P<ones>\d+)\s)?(?P<top>\d+)\s?/\s?(?P<bottom>\d+)(?![\d/]|\.\d)
      |(?P<digits>{_DIGITS})?(?P<decimals>\.\d+)?(?<=\d)
       (?:[eE](?P<e>[-+]?\d{{1,4}})(?![A-Za-z\d])
         |\s?(?:×|\\times|\\cdot)\s?10\s?\^\s?{{?\s?(?P<ten>[-\u2212+]?\d{{1,4}})\s?}}?)?
    )
    (?P<percent>\s?\\?%)?
    """,
    re.VERBOSE,
)
_MINUS = ("-", "\u2212", "\u2013")


@dataclass(frozen=True, slots=True)
class Number:
    """`value` as it is written, before a percent sign, if it has one; `start` and `end` are where
    in its text it stands."""

    value: Fraction
    percent: bool = False
    start: int = 0
    end: int = 0

    def is_same(self, other: Number) -> bool:
        """Whether both mean the same. Where one alone has a percent sign, the other may mean
        hundredths or not: 50 % is 50, and it is 0.5."""
        if self.value == other.value:
            return True
        if self.percent == other.percent:
            return False
        with_sign, without = (self, other) if self.percent else (other, self)
        return with_sign.value / 100 == without.value

    def __str__(self) -> str:
        """In one way for all that mean the same, the percent sign left out."""
        return str(self.value)


def find_numbers(text: str) -> Iterator[Number]:
    """Every number in `text`, from left to right."""
    for match in _NUMBER.finditer(text):
        value = _value(match)
        if value is not None:
            yield Number(value, bool(match["percent"]), match.start(), match.end())


def last_number(text: str) -> Number | None:
    """The last number in `text`."""
    found = None
    for found in find_numbers(text):  # noqa: B007 - the last one is wanted
        pass
    return found


def read_number(text: str) -> Number | None:
    """The number that `text` is as a whole, but for blanks around it."""
    stripped = text.strip()
    match = _NUMBER.fullmatch(stripped)
    value = None if match is None else _value(match)
    if match is None or value is None:
        return None
    return Number(value, bool(match["percent"]), 0, len(stripped))


def _value(match: re.Match[str]) -> Fraction | None:
    if len(match[0]) > _MOST_DIGITS:
        return None
    size = _size(match)
    if size is None:
        return None
    negative = (match["sign"] in _MINUS) != (match["late"] is not None)
    return -size if negative else size


def _size(match: re.Match[str]) -> Fraction | None:
    top, bottom = match["over"] or match["over1"], match["under"] or match["under1"]
    ones = match["whole"]
    if top is None:
        top, bottom, ones = match["top"], match["bottom"], match["ones"]
    if top is not None:
        if int(bottom) == 0:
            return None
        part = Fraction(int(top.replace("\u2212", "-")), int(bottom))
        return part + int(ones) if ones else part
    digits = re.sub(r"\D", "", match["digits"] or "") or "0"
    size = Fraction(digits + (match["decimals"] or ""))
    exponent = int((match["e"] or match["ten"] or "0").replace("\u2212", "-"))
    if abs(exponent) > _MOST_EXPONENT:
        return None
    return size * Fraction(10) ** exponent
