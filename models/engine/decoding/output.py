"""A reply's text on its way out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from openchat_local.models.engine.decoding.stops import StopBuffer
from openchat_local.models.engine.protocol import GenerationEvent, GenerationRequest, TextDelta
from openchat_local.models.template.vocabulary import ContentDecoder

Emit = Callable[[GenerationEvent], None]


class Output:
    """Text decoded to whole characters, searched for stop strings, batched.

    `begun` are the ids of a reply that is continued: they are not sent again.
    """

    def __init__(
        self, decoder: ContentDecoder, request: GenerationRequest, begun: Sequence[int], emit: Emit
    ) -> None:
        self.ids: list[int] = list(begun)
        self._decoder = decoder
        for id in begun:
            decoder.feed(id)
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
        self._take(self._stops.feed(self._decoder.feed(token)))
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
