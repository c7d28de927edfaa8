"""Finding the literals of special tokens in text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator


def any_of(literals: Iterable[str]) -> re.Pattern[str]:
    """Matches the longest of `literals` and captures it; never matches without any."""
    longest_first = sorted(filter(None, literals), key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")


def starts_of(literals: Iterable[str]) -> re.Pattern[str]:
    """Matches the first character of any of `literals` that has a second one."""
    rests: dict[str, list[str]] = {}
    for literal in literals:
        if len(literal) > 1:
            rests.setdefault(literal[0], []).append(re.escape(literal[1:]))
    starts = (f"{re.escape(first)}(?={'|'.join(rest)})" for first, rest in rests.items())
    return re.compile("|".join(starts) or "(?!)")


def cut(text: str, starts: re.Pattern[str]) -> Iterator[str]:
    """Pieces of `text` none of which contains a literal of `starts` (see `starts_of`):
    each literal is cut after its first character, wherever one begins, overlaps included."""
    begin = 0
    for match in starts.finditer(text):
        yield text[begin : match.end()]
        begin = match.end()
    if begin < len(text):
        yield text[begin:]
