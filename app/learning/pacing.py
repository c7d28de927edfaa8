"""Two streams shown at one pace, so that neither the wait nor the speed tells which is which.

Nothing here waits, and nothing slows the one who writes: text that has come is shown late, when
the other stream has got as far. How long each text is in the end may be seen; who was quicker
may not.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

FEWEST = 8
"""Tokens without which a pace is no more than a guess."""
USUAL = 20.0
SLOWEST = 4.0
"""Tokens a second where the two have no pace of their own, and the least that is shown."""
BURST_SECONDS = 0.3
"""What may be shown at once after a wait, in seconds of the pace: a screen is painted seldom."""


@dataclass(slots=True)
class _Stream:
    """What came of one text and is not shown: pieces, and the tokens that are in each."""

    pieces: deque[tuple[str, int]] = field(default_factory=deque)
    tokens: int = 0
    shown: int = 0
    finished: bool = False

    def show_up_to(self, token: int) -> str:
        """The text up to a token, as far as it is not shown yet. Within a piece nobody knows
        where a token ends: it is cut in proportion."""
        text = ""
        while self.pieces and (self.shown < token or self._is_mere_end(token)):
            piece, tokens = self.pieces.popleft()
            taken = min(tokens, token - self.shown)
            self.shown += taken
            cut = len(piece) if taken == tokens else len(piece) * taken // tokens
            text += piece[:cut]
            if taken < tokens:
                self.pieces.appendleft((piece[cut:], tokens - taken))
                break
        return text

    def _is_mere_end(self, token: int) -> bool:
        """Whether the next piece belongs to tokens that are shown."""
        return not self.pieces[0][1] and (token > 0 or self.finished)


class Pacing:
    """Of two streams, 0 and 1, shows so many tokens of one as of the other.

    Until one has ended, both are shown as far as both have come. From then on the longer one
    goes on as fast as they were before, however much of it has come already, and whichever of
    them was the first to end. Times are seconds of any clock that goes forward.
    """

    def __init__(self) -> None:
        self._streams = (_Stream(), _Stream())
        self._shown = 0
        self._began: float | None = None
        self._pace: float | None = None
        """Since one has ended, and both had a pace: tokens a second."""
        self._credit = 0.0
        self._asked = 0.0

    def take(self, side: int, text: str, tokens: int) -> None:
        """More of a stream has come."""
        stream = self._streams[side]
        stream.pieces.append((text, tokens))
        stream.tokens += tokens

    def finish(self, side: int, at: float) -> None:
        """Nothing more will come of a stream."""
        self._streams[side].finished = True
        self._settle_pace(at)

    def release(self, at: float) -> tuple[str, str]:
        """The text of each that is to be shown now, beside what was before."""
        self._settle_pace(at)
        ready = self._ready()
        if self._pace is not None:
            most = self._pace * BURST_SECONDS + 1
            self._credit = min(most, self._credit + self._pace * max(0.0, at - self._asked))
            self._asked = at
            ready = min(ready, self._shown + int(self._credit))
            self._credit -= max(0, ready - self._shown)
        if ready > self._shown:
            self._shown = ready
            if self._began is None:
                self._began = at
        first, second = (stream.show_up_to(self._shown) for stream in self._streams)
        return first, second

    @property
    def shown(self) -> int:
        """Up to which token both are shown; a stream that has fewer is shown whole."""
        return self._shown

    @property
    def over(self) -> bool:
        """Whether both have ended and all is shown."""
        return all(stream.finished and not stream.pieces for stream in self._streams)

    def _ready(self) -> int:
        """Up to which token there is something to show. Until the pace is known, no further than
        the shorter one goes."""
        going = [stream.tokens for stream in self._streams if not stream.finished]
        ready = min(going) if going else max(stream.tokens for stream in self._streams)
        shorter = self._shorter
        return ready if self._pace is not None or shorter is None else min(ready, shorter)

    @property
    def _shorter(self) -> int | None:
        """The tokens of the shortest that has ended."""
        ended = [stream.tokens for stream in self._streams if stream.finished]
        return min(ended, default=None)

    def _settle_pace(self, at: float) -> None:
        """Once one has ended, know how fast both were."""
        shorter = self._shorter
        if self._pace is not None or shorter is None:
            return
        if self._began is not None and self._shown >= FEWEST and at > self._began:
            self._pace = max(SLOWEST, self._shown / (at - self._began))
        elif self._shown >= shorter:
            self._pace = USUAL
        self._asked = at
