"""Markdown that takes nothing away from what was said.

CommonMark is made for documents: a line's end is a space, a backslash before punctuation goes,
underscores and asterisks go wherever they come in pairs. Replies are full of poems, addresses,
maths and names, so these rules stand in the place of CommonMark's own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

from markdown_it import MarkdownIt
from markdown_it.rules_inline.state_inline import Delimiter

if TYPE_CHECKING:
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline

MATHS = "maths"
"""The type of the token of a display formula; its content is the lines as they were written."""

LONGEST_FORMULA = 2_000
"""Characters within a line of text that are searched for the end of a formula."""

LONGEST_MARKER = 40
"""Characters before the text of an item of a list, its indentation included."""

# A dollar that opens stands before no space, one that closes behind none and before no digit:
# "between $5 and $10" is no formula.
_DOLLARS = re.compile(r"\$\$[^$]+\$\$|\$(?![\s$])(?:\\.|[^\\$`])*(?<!\s)\$(?![\d$])", re.DOTALL)
_OPENING = re.compile(r"\$\$|\\\[|\\begin\{([A-Za-z]+\*?)\}")
# A word that begins and ends with underscores is a name: `__init__`, `_id_`.
_NAME = re.compile(r"_+[A-Za-z0-9]+(?:_+[A-Za-z0-9]+)*_+(?![A-Za-z0-9_])")
_OF_A_NAME = re.compile(r"_+[A-Za-z0-9]+(?:[(\[=/_]|\.\w)")
_HAS_NAME = re.compile(r"[A-Za-z0-9]_+[A-Za-z0-9]+\Z")
_ESCAPED = frozenset("*_`~#<>!")
"""What a backslash goes from; before any other punctuation it belongs to a formula, a path or
a pattern."""
_ESCAPED_MARKER = re.compile(r"[ \t]*(?:[-+]|[0-9]{1,9}[.)])", re.ASCII)
_ADDRESS = re.compile(r"[/.#:@?]")


class ReplyMarkdown(MarkdownIt):
    """CommonMark with tables and strikethrough, and with the rules above.

    A reply is read while it grows: a link definition further down must not change what already
    stands above, so there are none. HTML is shown as it is written.
    """

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False})
        self.enable(["table", "strikethrough"]).disable(["reference"])
        self.block.ruler.before(
            "table", MATHS, _formula_block, {"alt": ["paragraph", "blockquote", "list"]}
        )
        self.inline.ruler.before("escape", MATHS, _formula)
        self.inline.ruler.at("escape", _escape)
        self.inline.ruler.at("newline", _newline)
        self.inline.ruler.at("emphasis", _emphasis)

    def validateLink(self, url: str) -> bool:  # noqa: N802 - the library's name
        """Whether it may be a link: `f[i](x)` is none."""
        return super().validateLink(url) and bool(_ADDRESS.search(url))


def _formula_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A formula on lines of its own. It ends with its closing mark or, like any in TeX, with a
    blank line: so what stands above is never changed by what comes later."""
    if state.is_code_block(start):
        return False
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    opening = _OPENING.match(first)
    if opening is None:
        return False
    closing = _closing(opening)
    rest = first[opening.end() :].rstrip()
    one_line = closing in rest
    if one_line and (not rest.endswith(closing) or rest.count(closing) > 1):
        return False
    if silent:
        return True
    line = start + 1
    while not one_line and line < end:
        if state.isEmpty(line) or state.sCount[line] < state.blkIndent:
            break
        one_line = closing in state.src[state.bMarks[line] : state.eMarks[line]]
        line += 1
    state.line = line
    token = state.push(MATHS, "", 0)
    token.content = state.getLines(start, line, state.blkIndent, False)
    token.map = [start, line]
    return True


def _closing(opening: re.Match[str]) -> str:
    if opening[1]:
        return f"\\end{{{opening[1]}}}"
    return "$$" if opening[0] == "$$" else "\\]"


def _formula(state: StateInline, silent: bool) -> bool:
    r"""A formula within a text, `$…$`, `$$…$$`, `\(…\)` or `\[…\]`."""
    begin = state.src[state.pos : state.pos + 2]
    if begin in ("\\(", "\\["):
        closing = "\\)" if begin == "\\(" else "\\]"
        limit = min(state.posMax, state.pos + LONGEST_FORMULA)
        end = state.src.find(closing, state.pos + 2, limit) + 2
    elif begin[:1] == "$":
        limit = min(state.posMax, state.pos + LONGEST_FORMULA)
        found = _DOLLARS.match(state.src, state.pos, limit)
        end = found.end() if found else 1
    else:
        return False
    return end > 1 and _keep(state, end, silent)


def _escape(state: StateInline, silent: bool) -> bool:
    """A backslash goes where it does nothing but keep the next character from being Markdown;
    elsewhere both stay, and neither is Markdown."""
    if state.src[state.pos] != "\\":
        return False
    after = state.src[state.pos + 1 : min(state.pos + 2, state.posMax)]
    if after not in _ESCAPED and not _before_marker(state, after):
        whole = after.isascii() and not after.isalnum() and not after.isspace()
        return _keep(state, state.pos + 1 + whole, silent)
    if not after:
        return _keep(state, state.pos + 1, silent)
    state.pos += 1
    return _keep(state, state.pos + 1, silent)


def _before_marker(state: StateInline, after: str) -> bool:
    r"""Whether it is the backslash of "1\. no list" at the beginning of a line."""
    if after not in ("-", "+", ".", ")"):
        return False
    line = state.src[max(0, state.pos - LONGEST_MARKER) : state.pos].rpartition("\n")[2] + after
    return len(line) < LONGEST_MARKER and _ESCAPED_MARKER.fullmatch(line) is not None


def _newline(state: StateInline, silent: bool) -> bool:
    """A line's end is a line's end, and the next line keeps its indentation."""
    if state.src[state.pos] != "\n":
        return False
    begin = end = state.pos + 1
    while end < state.posMax and state.src[end] in " \t":
        end += 1
    if not silent:
        state.pending = state.pending.rstrip(" ")
        state.push("softbreak", "br", 0)
    state.pos = begin
    return _keep(state, end, silent)


def _emphasis(state: StateInline, silent: bool) -> bool:
    """As CommonMark has it, but not in the middle of `2*3*4`, `src/*.py` or `__init__`."""
    marker = state.src[state.pos]
    if silent or marker not in ("_", "*"):
        return False
    before = state.src[state.pos - 1] if state.pos else " "
    if marker == "_" and not _is_word(before) and (name := _NAME.match(state.src, state.pos)):
        return _keep(state, name.end(), silent)
    scanned = state.scanDelims(state.pos, marker == "*")
    end = state.pos + scanned.length
    after = state.src[end] if end < state.posMax else " "
    opens, closes = scanned.can_open, scanned.can_close
    if marker == "*":
        # "**注意：**请" has punctuation on one side and no space on the other.
        opens |= _is_wide(before) and not after.isspace()
        closes |= _is_wide(after) and not before.isspace()
        opens &= not (_in_a_word(state) or (scanned.length == 1 and after in "./"))
        inside = _is_word(before) and _is_word(after)
        closes &= before != "/" and (not inside or (scanned.length > 1 and _begun(state)))
    else:
        opens &= _OF_A_NAME.match(state.src, state.pos) is None
        closes &= _HAS_NAME.search(state.src[max(0, state.pos - 40) : state.pos]) is None
    for _ in range(scanned.length):
        state.push("text", "", 0).content = marker
        place = len(state.tokens) - 1
        state.delimiters.append(
            Delimiter(ord(marker), scanned.length, place, -1, open=opens, close=closes)
        )
    state.pos = end
    return True


def _in_a_word(state: StateInline) -> bool:
    """Whether an asterisk stands behind a factor, in a path or in a call: `a*b`, `f(*args)`."""
    before = state.src[max(0, state.pos - 2) : state.pos]
    last = before[-1:]
    return _is_word(last) or last in tuple(")]}/\\=.") or (last == "(" and _is_word(before[0]))


def _begun(state: StateInline) -> bool:
    """Whether the word up to here has begun to be strong: `**H**yper`."""
    return "**" in re.split(r"\s", state.src[max(0, state.pos - 40) : state.pos])[-1]


def _is_word(character: str) -> bool:
    """Whether it is a letter of a script that puts spaces between words, or a digit."""
    return character.isascii() and character.isalnum()


def _is_wide(character: str) -> bool:
    """Whether it is a letter of a script without spaces, as Chinese: emphasis may be anywhere."""
    return character.isalpha() and east_asian_width(character) == "W"


def _keep(state: StateInline, end: int, silent: bool) -> bool:
    """Take everything up to `end` as it is written."""
    if not silent:
        state.pending += state.src[state.pos : end]
    state.pos = end
    return True
