"""One reply of a remote engine, from what fits of the conversation to its last event."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Generator
from typing import Any

from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.context_window import fit, surely_fits
from openchat_local.models.engine.protocol import (
    Finished,
    GenerationEvent,
    GenerationRequest,
    Heartbeat,
    LoadedModel,
    PromptFitted,
    TextDelta,
    Usage,
)
from openchat_local.models.engine.remote.counting import ids_of_prompt
from openchat_local.models.engine.remote.discovery import Discovered
from openchat_local.models.engine.remote.faults import Broken, Refused
from openchat_local.models.engine.remote.habits import learned
from openchat_local.models.engine.remote.link import Exchange, Link
from openchat_local.models.engine.remote.requests import chat_body
from openchat_local.models.engine.remote.shortening import shorter
from openchat_local.models.engine.remote.streaming import Reading

HEARTBEAT_SECONDS = 0.5
LOOSE = "The server was only recommended the schema, and may not have kept to it."


class Stop:
    """The user's wish to end a reply, which closes its connection at once."""

    def __init__(self) -> None:
        self.wanted = threading.Event()
        self._exchange: Exchange | None = None

    def of(self, exchange: Exchange) -> None:
        self._exchange = exchange
        if self.wanted.is_set():
            exchange.close()

    def now(self) -> None:
        self.wanted.set()
        if self._exchange is not None:
            self._exchange.close()


class Reply:
    """One reply, from what fits of the conversation to its last event."""

    def __init__(
        self,
        link: Link,
        found: Discovered,
        model: LoadedModel,
        request: GenerationRequest,
        stop: Stop,
    ) -> None:
        assert model.remote is not None
        self._link, self._found, self._model, self._remote = link, found, model, model.remote
        self._request = request
        self._stop = stop
        self._reading = Reading()
        self._text: list[str] = []
        self._began = time.perf_counter()
        self._first: float | None = None
        self._thought = 0.0  # seconds
        self._note: str | None = None

    def events(self) -> Generator[GenerationEvent, None, None]:
        conversation, left_out, tokens = self._fitted()
        if tokens or left_out:
            yield PromptFitted(tokens, left_out)
        waited = 0.0
        while True:
            habits, model = self._link.habits, self._found.model
            body = chat_body(self._request, conversation, model, self._remote, habits)
            try:
                yield from self._streamed(body)
                return
            except Refused as refusal:  # nothing was generated
                other = learned(habits, body, self._request, refusal.param, refusal.said)
                if other is not None:
                    self._link.habits, self._note = other, other.note
                elif refusal.too_long:
                    cut = shorter(self._request, conversation, str(refusal))
                    left_out += len(conversation.messages) - len(cut.messages)
                    conversation = cut
                    yield PromptFitted(0, left_out)
                elif refusal.status == 429:
                    waited += self._wait(refusal, waited)
                else:
                    raise

    def _fitted(self) -> tuple[Conversation, int, int]:
        """What of the conversation fits, how many turns are left out, and its tokens: 0 where it
        was not counted."""
        request, size = self._request, self._model.context
        whole = request.conversation
        if not (self._found.can.counts and size) or _all_fits(request, size):
            return whole, 0, 0
        fitted = fit(
            whole, size,
            lambda conversation: len(ids_of_prompt(self._link, self._found, conversation)),
            request.overflow, request.sampling.max_tokens,
        )  # fmt: skip
        return fitted.conversation, fitted.left_out, fitted.tokens

    def _streamed(self, body: dict[str, Any]) -> Generator[GenerationEvent, None, None]:
        exchange = self._link.stream("/chat/completions", body)
        self._stop.of(exchange)
        pending, count, due = "", 0, time.perf_counter()
        try:
            while True:
                try:
                    chunk = exchange.next(HEARTBEAT_SECONDS)
                except queue.Empty:
                    chunk = {}
                except Broken as fault:
                    if pending:
                        yield TextDelta(pending, count)
                    if self._reading.written:
                        raise fault.in_mid_reply() from fault
                    raise
                if chunk is None:
                    break
                if self._stop.wanted.is_set():
                    break
                text = self._taken(chunk)
                pending, count = pending + text, count + bool(text)
                now = time.perf_counter()
                if pending and (now >= due or not text):
                    yield TextDelta(pending, count)
                    pending, count, due = "", 0, now + self._request.update_interval
                elif not chunk:
                    yield Heartbeat()
        finally:
            exchange.close()
        if pending:
            yield TextDelta(pending, count)
        yield self._finished()

    def _taken(self, chunk: dict[str, Any]) -> str:
        if isinstance(error := chunk.get("error"), dict):
            said = str(error.get("message") or "it does not say why")
            fault = Broken(f"{self._remote.place} gave up ({said.rstrip('.')[:300]})")
            raise fault.in_mid_reply() if self._reading.written else fault
        thinking = self._reading.thinking
        text = self._reading.take(chunk)
        if text:
            self._text.append(text)
            now = time.perf_counter()
            if self._first is None:
                self._first = now
            if thinking:
                self._thought = now - self._first
        return text

    def _finished(self) -> Finished:
        reason = self._reading.reason
        if reason is None and not self._stop.wanted.is_set():
            fault = Broken(f"{self._remote.place} ended the connection")
            raise fault.in_mid_reply() if self._reading.written else fault
        return Finished(
            reason or "cancelled",
            self._usage(),
            (),
            note=self._told(),
            complete=self._is_complete(),
        )

    def _told(self) -> str | None:
        """What the user should know of this reply."""
        loose = self._link.habits.loose and self._request.sampling.json_schema is not None
        notes = (self._reading.note, self._note, LOOSE if loose else None)
        return " ".join(note for note in notes if note) or None

    def _usage(self) -> Usage:
        """As the server counts. One that does not, or was not asked to the end: no prompt tokens,
        and for each piece of text one token."""
        now, reading = time.perf_counter(), self._reading
        first = now if self._first is None else self._first
        prompt = reading.prompt_tokens or 0
        cached = min(prompt, reading.cached_tokens)
        told = reading.generated_tokens
        return Usage(
            prompt_tokens=prompt,
            reused_tokens=cached,
            restored_tokens=0,
            evaluated_tokens=prompt - cached,
            generated_tokens=reading.chunks if told is None else told,
            restore_seconds=0.0,
            prefill_seconds=first - self._began,
            decode_seconds=now - first,
            time_to_first_token=first - self._began,
            reasoning_tokens=reading.reasoning_tokens,
            reasoning_seconds=self._thought,
        )

    def _is_complete(self) -> bool:
        """Whether the reply is JSON, where it had to be. That it obeys its schema is the
        server's word."""
        if self._request.sampling.json_schema in (None, False):
            return True
        try:
            json.loads("".join(self._text))
        except (ValueError, RecursionError):
            return False
        return True

    def _wait(self, refusal: Refused, waited: float) -> float:
        """Wait as the server asks to. Raises the refusal where that is longer than we may."""
        seconds = refusal.wait if refusal.wait is not None else 5.0
        if waited + seconds > self._link.options.patience:
            raise refusal
        self._stop.wanted.wait(seconds)
        return max(seconds, 0.1)


def _all_fits(request: GenerationRequest, size: int) -> bool:
    """Whether the conversation and the reply fit whatever the tokens are, as `surely_fits`."""
    room = size - min(size // 4, request.sampling.max_tokens or size)
    return surely_fits(request.conversation, room, "refuse")
