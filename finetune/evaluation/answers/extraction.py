"""Where in a reply its answer stands, and when two texts say the same."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

# "#### 42", as the answers of GSM8K end.
_HASHES = re.compile(r"(?<!#)####[ \t]*([^\s#][^\n#]*)")
_BOXED = re.compile(r"\\f?box(?:ed)?[ \t]*\{")
_SAID = re.compile(r"\banswer\s?(?:is|are|:|=|\*\*:|:\*\*)\s{0,3}:?\s{0,3}(?=\S)", re.IGNORECASE)
# A sentence ends after a word of some length, a digit or a bracket: "St. Louis" goes on.
_SENTENCE = re.compile(r"(?:(?<=[a-z]{3})|(?<=[A-Z]{3})|(?<=[\d)\]}*$]))[.!?](?=\s)")
_LETTER = re.compile(r"\W{0,3}\(?([A-Z])\)?(?![A-Za-z])")
_LETTER_GOLD = re.compile(r"\(?[A-Z]\)?\.?")
_LETTER_ALONE = re.compile(r"\W{0,3}(?:\(([A-Z])\)|([A-Z])(?:[.):](?:\s|$)|\W{0,3}$))")
_AROUND = " \t\r\n*_`\"'“”‘’«»"
# LaTeX that changes how an answer looks, not what it says.
_SPACING = re.compile(r"\\[!,;: ]|\\(?:left|right|displaystyle)(?![A-Za-z])|~")
_WORDS = re.compile(r"\\(?:text|mbox|mathrm|textbf|mathbf)\s?\{([^{}]*)\}")
_SMALL_FRACTION = re.compile(r"\\frac\s?(\d)\s?(\d)")
_BRACES_OF_ONE = re.compile(r"(?<=[\^_])\{([A-Za-z\d])\}")
_NAMED = re.compile(r"[A-Za-z]\s?=\s?(?=[^=])")


@dataclass(frozen=True, slots=True)
class Mark:
    """What a marked answer says, and where in the text the mark and the answer begin and end."""

    says: str
    start: int
    end: int


def after_hashes(text: str) -> Mark | None:
    """What stands behind the last "####", to the end of its line."""
    found = None
    for found in _HASHES.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    return None if found is None else Mark(found[1].strip(), found.start(), found.end())


def last_boxed(text: str) -> Mark | None:
    """What is in the last ``\\boxed{…}`` whose braces are closed."""
    for match in reversed([*_BOXED.finditer(text)]):
        depth = 1
        for place in range(match.end(), len(text)):
            depth += (text[place] == "{") - (text[place] == "}")
            if depth == 0:
                return Mark(text[match.end() : place].strip(), match.start(), place + 1)
    return None


def last_said(text: str) -> Mark | None:
    """What the last "the answer is …" or "Answer: …" says, to the end of its sentence or line."""
    found = None
    for found in _SAID.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    if found is None:
        return None
    said, _, _ = text[found.end() :].partition("\n")
    if end := _SENTENCE.search(said):
        said = said[: end.start()]
    return Mark(said.strip(), found.start(), found.end() + len(said.rstrip()))


def letter_at(text: str, *, alone: bool = False) -> str | None:
    """The option that `text` begins with: "(B) Paris" → "B". With `alone`, a letter that is
    merely the first word ("A dog") is none."""
    if alone:
        found = _LETTER_ALONE.match(text)
        return None if found is None else found[1] or found[2]
    found = _LETTER.match(text)
    return None if found is None else found[1]


def is_letter(text: str) -> bool:
    """Whether an answer is one of the letters of options: "B", "(B)"."""
    return _LETTER_GOLD.fullmatch(text.strip()) is not None


def normalised(text: str) -> str:
    """`text` without what answers are not told apart by: case, runs of blanks, quotation marks and
    Markdown's emphasis around it, math's dollars, a full stop at its end."""
    plain = " ".join(unicodedata.normalize("NFKC", text).split()).casefold()
    before = None
    while plain != before:
        before = plain
        plain = plain.strip(_AROUND).rstrip(".!").strip(_AROUND)
        plain = _unwrapped(plain)
    return plain


def normalised_latex(text: str) -> str:
    """A formula as `normalised` has it, and besides without what only changes how it looks:
    spacing, sizes of fractions and brackets, ``\\text{}`` around words, braces around a single
    character, "x = " before it."""
    plain = _SPACING.sub("", text)
    plain = plain.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    plain = _SMALL_FRACTION.sub(r"\\frac{\1}{\2}", _WORDS.sub(r"\1", plain))
    plain = _BRACES_OF_ONE.sub(r"\1", plain)
    plain = plain.replace("^\\circ", "").replace("^{\\circ}", "").replace("\\$", "$")
    plain = normalised(plain)
    if named := _NAMED.match(plain):
        plain = plain[named.end() :]
    return plain.replace(" ", "").removeprefix("$")


def _unwrapped(text: str) -> str:
    for first, last in (("\\(", "\\)"), ("\\[", "\\]"), ("$", "$")):
        if len(text) > len(first + last) and text.startswith(first) and text.endswith(last):
            inner = text[len(first) : -len(last)]
            if first not in inner:
                return inner.strip()
    return text
