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
        while self.pieces and (self.shown < token or not self.pieces[0][1]):
            piece, tokens = self.pieces.popleft()
            taken = min(tokens, token - self.shown)
            self.shown += taken
            cut = len(piece) if taken == tokens else len(piece) * taken // tokens
            text += piece[:cut]
            if taken < tokens:
                self.pieces.appendleft((piece[cut:], tokens - taken))
                break
        return text


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
        self._alone: tuple[float, int, float] | None = None
        """Since one has ended: when that was, what was shown, and tokens a second."""

    def take(self, side: int, text: str, tokens: int) -> None:
        """More of a stream has come."""
        stream = self._streams[side]
        stream.pieces.append((text, tokens))
        stream.tokens += tokens

    def finish(self, side: int, at: float) -> None:
        """Nothing more will come of a stream."""
        self._streams[side].finished = True
        if self._alone is None:
            self._alone = (at, self._shown, self._pace(at))

    def release(self, at: float) -> tuple[str, str]:
        """The text of each that is to be shown now, beside what was before."""
        ready = self._ready()
        if self._alone is not None:
            since, shown, pace = self._alone
            ready = min(ready, shown + int(pace * max(0.0, at - since)))
        if ready > self._shown:
            self._shown = ready
            if self._began is None:
                self._began = at
        first, second = (stream.show_up_to(self._shown) for stream in self._streams)
        return first, second

    def release_all(self) -> tuple[str, str]:
        """All that has come: there will be no vote that it could help."""
        first, second = (stream.show_up_to(stream.tokens) for stream in self._streams)
        self._shown = max(stream.tokens for stream in self._streams)
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
        going = [stream.tokens for stream in self._streams if not stream.finished]
        return min(going) if going else max(stream.tokens for stream in self._streams)

    def _pace(self, at: float) -> float:
        if self._began is None or self._shown < FEWEST or at <= self._began:
            return USUAL
        return max(SLOWEST, self._shown / (at - self._began))
