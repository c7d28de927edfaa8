"""Find in the open chat: over the whole branch, also where it is not laid out."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

from openchat_local.app.tui.markdown.search import Finder
from openchat_local.app.tui.markdown.sections import message_section

if TYPE_CHECKING:
    from openchat_local.app.tui.widgets.find_bar import FindBar
    from openchat_local.app.tui.widgets.transcript import Transcript

AT_A_TIME = 0.01
"""Seconds of searching between two looks at the keyboard."""


class TurnHit(NamedTuple):
    """The `ordinal`-th hit in turn number `turn`."""

    turn: int
    ordinal: int


class FindInChat:
    """What was found, from the end of the chat backwards, and which hit was jumped to."""

    def __init__(self, transcript: Transcript, bar: FindBar) -> None:
        self._transcript = transcript
        self._bar = bar
        self._hits: list[TurnHit] = []
        self._current: TurnHit | None = None
        self._searching = False

    async def search(self, words: str) -> None:
        """Find `words` everywhere; the newest hit is jumped to at once. Cancelled by the next
        search."""
        transcript = self._transcript
        self._hits, self._current, self._searching = [], None, False
        if not words.strip():
            self.end()
            return
        finder = transcript.finder = Finder(words)
        transcript.refresh()
        self._searching = True
        clock = asyncio.get_running_loop().time
        pause = clock() + AT_A_TIME
        # A copy: a reply that begins meanwhile takes turns away.
        for number, turn in reversed(list(enumerate(transcript.turns))):
            if finder.may_be_in(turn.content):
                section = message_section(turn, unfolded=True)
                section.lay_out(transcript.laid_out.width or 80)
                found = len(finder.hits(section, section.width))
                self._hits[:0] = [TurnHit(number, ordinal) for ordinal in range(found)]
                if self._hits and self._current is None:
                    self._jump(self._hits[-1])
            if clock() > pause:
                self._tell()
                await asyncio.sleep(0)
                pause = clock() + AT_A_TIME
        self._searching = False
        self._tell()

    def go(self, direction: int) -> None:
        """To the next hit above (-1) or below (1), and round the end."""
        if not self._hits:
            return
        if self._current is None:
            hit = self._hits[-1]
        elif direction < 0:
            hit = self._hits[bisect_left(self._hits, self._current) - 1]
        else:
            hit = self._hits[bisect_right(self._hits, self._current) % len(self._hits)]
        self._jump(hit)
        self._tell()

    def end(self) -> None:
        """Mark nothing any more."""
        self._hits, self._current = [], None
        self._transcript.finder = None
        self._transcript.refresh()
        self._bar.tell("")

    def _jump(self, hit: TurnHit) -> None:
        transcript = self._transcript
        finder = transcript.finder
        if finder is None or hit.turn >= len(transcript.turns):
            return
        self._current = hit
        key = transcript.turns[hit.turn].id
        finder.point_at(key, hit.ordinal)
        transcript.reveal_hit(key, hit.ordinal)
        transcript.refresh()

    def _tell(self) -> None:
        count = len(self._hits)
        if not count:
            self._bar.tell("  searching…" if self._searching else "  nothing found")
            return
        number = 0 if self._current is None else bisect_left(self._hits, self._current) + 1
        self._bar.tell(f"  {number:,}/{count:,}{'…' if self._searching else ''}")
