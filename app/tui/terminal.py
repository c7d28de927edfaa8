"""What the terminal sends: keys and pastes, whatever they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from textual import events
from textual._xterm_parser import XTermParser
from textual.keys import Keys

if TYPE_CHECKING:
    from textual.message import Message

PASTE_START, PASTE_END = "\x1b[200~", "\x1b[201~"

_ALT_ENTER = frozenset({"\x1b\r", "\x1b\n"})
_ENHANCED_KEY = re.compile(r"\x1b\[([\d:]*)(?:;([\d:]*))?(?:;([\d:]*))?([u~ABCDEFHPQRS])")
_OF_XTERM = ("27", "~")  # ESC [ 27 ; modifiers ; code ~, where others send ESC [ code ; modifiers u
_RELEASED = "3"


class TerminalParser(XTermParser):
    """Textual's parser, but for what it breaks on.

    What lies between the marks of a bracketed paste is one paste, escape sequences and all;
    nothing of it is a key. Keys as the kitty keyboard protocol reports them may have all their
    parts (https://sw.kovidgoyal.net/kitty/keyboard-protocol/), and ESC before Enter is Alt.
    """

    def __init__(self, debug: bool = False) -> None:
        self._begun = 0  # how much of the mark before a paste the end of the input is
        self._pasted: list[str] | None = None
        self._end = ""  # of the paste so far: the mark after it may come in two pieces
        super().__init__(debug)

    def feed(self, data: str) -> Iterator[Message]:
        """The messages of `data`; "" is the end of the input."""
        if not data:
            yield from super().feed(data)
        while data:
            if self._pasted is None:
                keys, data = self._up_to_a_paste(data)
                # A paste without a word is the mark's: the words never came this way.
                yield from (
                    message
                    for message in super().feed(keys)
                    if not (isinstance(message, events.Paste) and not message.text)
                )
            else:
                text, data = self._up_to_its_end(data)
                if text is not None:
                    yield events.Paste(text.replace("\x00", ""))

    def _up_to_a_paste(self, data: str) -> tuple[str, str]:
        """What comes up to the end of the next mark, and the rest."""
        for position, character in enumerate(data, 1):
            if character == PASTE_START[self._begun]:
                self._begun += 1
            else:
                self._begun = int(character == PASTE_START[0])
            if self._begun == len(PASTE_START):
                self._begun, self._pasted, self._end = 0, [], ""
                # Both marks, for a parser that is to see nothing between them.
                return data[:position] + PASTE_END, data[position:]
        return data, ""

    def _up_to_its_end(self, data: str) -> tuple[str | None, str]:
        """What was pasted, None before its end has come, and what comes after it."""
        assert self._pasted is not None
        known = len(self._end)
        found = (self._end + data).find(PASTE_END)
        if found < 0:
            self._pasted.append(data)
            self._end = (self._end + data)[-(len(PASTE_END) - 1) :]
            return None, ""
        text = "".join(self._pasted) + data
        end = len(text) - len(data) - known + found
        self._pasted = None
        return text[:end], text[end + len(PASTE_END) :]

    def _sequence_to_key_events(self, sequence: str, alt: bool = False) -> Iterable[events.Key]:
        if sequence in _ALT_ENTER:
            return [events.Key("alt+enter", None)]
        return super()._sequence_to_key_events(sequence, alt)

    def _parse_extended_key(  # type: ignore[override]  # Textual's has a cache of its own
        self, sequence: str
    ) -> list[events.Key] | None:
        match = _ENHANCED_KEY.fullmatch(sequence)
        if match is None:
            return None
        plain = _without_subfields(*match.groups(default=""))
        try:
            keys = None if plain is None else super()._parse_extended_key(plain)
            for key in keys or ():
                (key.character or "").encode()  # half of a surrogate pair is no character
        except (ValueError, OverflowError):  # nor is a number that Unicode has not
            keys = None
        return [events.Key(Keys.Ignore, sequence)] if keys is None else keys


def _without_subfields(code: str, modifiers: str, text: str, end: str) -> str | None:
    """The sequence of a key with what Textual reads of it; None for a key that is let go."""
    held, _, event = modifiers.partition(":")
    code = code.partition(":")[0]  # what comes after it are the key's other characters
    if event.startswith(_RELEASED):
        return None
    if (code, end) == _OF_XTERM and text and (_is_chord(held) or not _is_printable(text)):
        code, text, end = text, "", "u"
    return f"\x1b[{code};{held};{text}{end}"


def _is_chord(held: str) -> bool:
    """Whether more than Shift is held."""
    return held.isdecimal() and bool((int(held) - 1) & ~1)


def _is_printable(code: str) -> bool:
    return code.isdecimal() and int(code) >= ord(" ") and int(code) != 0x7F
