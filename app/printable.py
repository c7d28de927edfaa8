"""Text that a terminal shows and does not obey."""

from __future__ import annotations

import re

# Every character that moves a cursor, starts an escape sequence or reorders a line:
# C0, DEL, C1, Unicode's Bidi_Control, and halves of surrogate pairs, which no terminal's
# encoding can write.
_VISIBLE: dict[int, int | str] = {code: 0x2400 + code for code in range(0x20)}
_VISIBLE |= {0x7F: 0x2421, ord("\n"): "\n", ord("\t"): "\t"}
_VISIBLE |= {
    code: f"<U+{code:04X}>"
    for code in (*range(0x80, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F))
}
_VISIBLE |= {code: f"<U+{code:04X}>" for code in range(0x2066, 0x206A)}
_VISIBLE |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
# For where the place of a character in the text is that of its cell on the screen.
_IN_PLACE: dict[int, int | str] = {
    code: shown if isinstance(shown, int) or len(shown) == 1 else "\ufffd"
    for code, shown in _VISIBLE.items()
}
_IN_PLACE |= {0x2028: 0x2424, 0x2029: 0x2424}  # separators, which have no width
# A search is ten times as fast as `translate` where the text is not ASCII and there is none.
_ANY = re.compile(f"[{re.escape(''.join(map(chr, {*_IN_PLACE} - {9, 10})))}]")


def printable(text: str) -> str:
    """`text` with control characters as visible symbols: "\\x1b[2J" → "␛[2J".

    Newlines and tabs stay; a Windows line end becomes a newline.
    """
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def one_line(text: str) -> str:
    """`text` as `printable` gives it, on one line: for titles, names and values."""
    return printable(text).replace("\n", " ").replace("\t", " ")


def in_place(text: str) -> str:
    """`text` with each control character, but newline and tab, as one visible character."""
    return _ANY.sub(lambda found: found[0].translate(_IN_PLACE), text)
