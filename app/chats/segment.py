"""Text in any script → search tokens, with their places in the text.

Scripts that put spaces between words give folded words, and the parts of identifiers
(`parseJsonFile` → parsejsonfile, parse, json, file). Scripts that do not (Chinese,
Japanese, Thai, Khmer, …) give overlapping pairs of characters and the last character
alone, so that any stretch of them can be found, one character included. Everything
else that is not punctuation (an emoji, →) is a token of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

LONGEST_WORD = 64  # of a word that is longer (base64, a hash) the beginning is indexed

# First and last code points of the scripts that put no spaces between words: Thai and Lao,
# Tibetan, Myanmar, Khmer, Tai Le to New Tai Lue, Tai Tham, Balinese, Javanese, Myanmar's
# extensions, Han radicals, 々〆〇, Hangzhou numerals, Hiragana, Katakana, ー to Bopomofo,
# Bopomofo and Katakana extensions, Han, Yi, Han compatibility, half-width Katakana.
_UNSPACED = (
    *((0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF)),
    *((0x1A20, 0x1AAF), (0x1B00, 0x1B7F), (0xA980, 0xA9DF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),
    *((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3041, 0x309F), (0x30A1, 0x30FA)),
    *((0x30FC, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF)),
    *((0xA000, 0xA4CF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F)),
)
_HAN_BEYOND_THE_BMP = "\U00020000-\U0003ffff"
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+")
_ASCII_RUN = re.compile(r"(?P<unspaced>(?!))|(?P<symbol>(?!))|(?P<word>[A-Za-z0-9]+)")
# Between a small letter or digit and a capital, and before the last of several capitals
# that a small letter follows: parse|Json, HTTP|Server.
_CASE_CHANGE = re.compile(r"(?<=[^\W_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Run(NamedTuple):
    """A stretch of one kind: "word", "unspaced" or "symbol"; [start, end) in the text."""

    kind: str
    text: str
    start: int
    end: int


def runs(text: str) -> Iterator[Run]:
    """The stretches of `text` that can be searched for, in order."""
    pattern = _ASCII_RUN if text.isascii() else _run_pattern()
    for match in pattern.finditer(text):
        yield Run(match.lastgroup or "word", match.group(), match.start(), match.end())


def tokens(text: str) -> Iterator[str]:
    """What the index holds for `text`: no token contains a space or ASCII punctuation."""
    if text.isascii():  # half the time of an import of chats
        for word in _ASCII_WORD.findall(text):
            yield word[:LONGEST_WORD].lower()
            yield from case_parts(word)
        return
    for run in runs(text):
        folded = fold(run.text)
        if not folded:
            continue
        if run.kind == "unspaced":
            yield from pairs(folded)
            yield folded[-1:]
        else:
            yield folded[:LONGEST_WORD]
            yield from case_parts(run.text)


def pairs(folded: str) -> list[str]:
    """Every two neighbouring characters: "東京都" → ["東京", "京都"]."""
    return [folded[i : i + 2] for i in range(len(folded) - 1)]


def case_parts(word: str) -> list[str]:
    """The parts of a camelCase word, folded; none if it is all one part, or no word."""
    # Only an ASCII capital after the first letter begins a part.
    if len(word) > LONGEST_WORD or word[1:].islower() or word.isdigit():
        return []
    parts = [fold(part) for part in _CASE_CHANGE.split(word)]
    return parts if len(parts) > 1 else []


def fold(text: str) -> str:
    """Case, width and accents removed: "Ｃafé" → "cafe", "ſtraße" → "strasse".

    Compatibility decomposition (NFKD), case folding, and the loss of marks that readers
    leave out when they type: accents, and the vowel points of Hebrew and Arabic. Vowel
    signs and tone marks of other scripts stay; so do Japanese voicing marks. What
    decomposes into ASCII punctuation or spaces ("⑴", "＋") loses those.
    """
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(c for c in decomposed if not _is_left_out(c))
    return unicodedata.normalize("NFC", kept.casefold())


def _is_left_out(character: str) -> bool:
    if character.isspace() or (character.isascii() and not character.isalnum()):
        return True
    # Combining classes: 10-35 are Hebrew and Arabic points, from 200 on come the marks
    # above and below letters. Cf are invisible joiners and soft hyphens.
    combining = unicodedata.combining(character)
    return 10 <= combining <= 35 or combining >= 200 or unicodedata.category(character) == "Cf"


@cache
def _run_pattern() -> re.Pattern[str]:
    # `re` has no classes for scripts, marks and symbols. Built on first need, not at
    # import: it takes some 20 ms.
    inner, symbols = [], []
    for code in range(0x80, 0x1FC00):
        category = unicodedata.category(chr(code))
        if category[0] == "M" or category == "Cf":
            inner.append(code)
        elif category in ("So", "Sm", "Sc"):
            symbols.append(code)
    letters = [
        code
        for first, last in _UNSPACED
        for code in range(first, last + 1)
        if unicodedata.category(chr(code)) in ("Lo", "Lm", "Nl", "Mn", "Mc")
    ]
    unspaced = _character_class(letters) + _HAN_BEYOND_THE_BMP
    joined = _character_class(inner)
    return re.compile(
        f"(?P<unspaced>[{unspaced}][{unspaced}{joined}]*)"
        f"|(?P<symbol>[{_character_class(symbols)}])"
        f"|(?P<word>[^\\W_](?:(?![{unspaced}])[^\\W_]|[{joined}])*)"
    )


def _character_class(codes: list[int]) -> str:
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
