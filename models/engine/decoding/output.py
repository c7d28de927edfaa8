"""A reply's text on its way out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from openchat_local.models.engine.decoding.stops import StopBuffer
from openchat_local.models.engine.protocol import GenerationEvent, GenerationRequest, TextDelta
from openchat_local.models.template.vocabulary import ContentDecoder
from openchat_local.models.thoughts import ThoughtMarks, ThoughtReader

Emit = Callable[[GenerationEvent], None]


class Output:
    """Text decoded to whole characters, searched for stop strings, batched.

    `begun` are the ids of a reply that is continued: they are not sent again. `opened` is the
    mark of thoughts that the prompt ends with: the reply's text begins with it, so that whoever
    reads it later can tell its thoughts from its answer.
    """

    def __init__(
        self,
        decoder: ContentDecoder,
        request: GenerationRequest,
        begun: Sequence[int],
        emit: Emit,
        *,
        opened: str = "",
        thoughts: ThoughtMarks | None = None,
    ) -> None:
        self.ids: list[int] = list(begun)
        self.reasoning_tokens = 0
        self.thinking_ended = 0.0  # by `time.perf_counter`; 0.0: not yet
        self._decoder = decoder
        self._reader = ThoughtReader(thoughts)
        self._reader.feed(opened)
        for id in begun:
            self._reader.feed(decoder.feed(id))
        self._unclear = 0  # tokens of what may turn out to be a mark
        self._opened = "" if begun else opened
        self._stops = StopBuffer(request.sampling.stop)
        self._emit = emit
        self._interval = request.update_interval
        self._due = 0.0  # the first text goes out at once
        self._pending: list[str] = []
        self._pending_tokens = 0

    def feed(self, token: int) -> bool:
        """Take a token; True when a stop string is complete."""
        self.ids.append(token)
        self._pending_tokens += 1
        text = self._decoder.feed(token)
        if self._reader.place != "answer":
            self._count(text)
        if self._opened:
            self._take(self._opened)
            self._opened = ""
        self._take(self._stops.feed(text))
        if self._pending and time.perf_counter() >= self._due:
            self._flush()
        return self._stops.stopped

    def finish(self, *, whole: bool) -> None:
        """Send what is left. A reply that was cut short (not `whole`) loses the character that
        it was cut in."""
        if not self._stops.stopped:
            if whole or not self._decoder.in_mid_character:
                self._take(self._stops.feed(self._decoder.finish()))
            self._take(self._stops.finish())
        self._flush()

    def _count(self, text: str) -> None:
        """Whether the token of this text is one of the thoughts: `_unclear` may have been."""
        before, self._unclear = self._reader.place, self._unclear + 1
        self._reader.feed(text)
        if before == "thought" or self._reader.place == "thought":
            self.reasoning_tokens += self._unclear
            self._unclear = 0
        if before == "thought" and self._reader.place != "thought":
            self.thinking_ended = time.perf_counter()

    def _take(self, text: str) -> None:
        if text:
            self._pending.append(text)

    def _flush(self) -> None:
        if self._pending:
            text = "".join(self._pending)
            self._emit(TextDelta(text, self._pending_tokens))
            self._pending.clear()
            self._pending_tokens = 0
            self._due = time.perf_counter() + self._interval
