"""Text that a terminal shows and does not obey."""

from __future__ import annotations

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


def printable(text: str) -> str:
    """`text` with control characters as visible symbols: "\\x1b[2J" → "␛[2J".

    Newlines and tabs stay; a Windows line end becomes a newline.
    """
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def one_line(text: str) -> str:
    """`text` as `printable` gives it, on one line: for titles, names and values."""
    return printable(text).replace("\n", " ").replace("\t", " ")
