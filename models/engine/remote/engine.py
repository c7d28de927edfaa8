"""An engine that is another program: `Engine` over an OpenAI-compatible URL."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.capabilities import RemotePlace
from openchat_local.models.engine.context_window import fit, surely_fits
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    Finished,
    GenerationEvent,
    GenerationRequest,
    Heartbeat,
    LoadedModel,
    Passage,
    Pooling,
    PromptFitted,
    RenderedPrompt,
    Score,
    ScoreRequest,
    TextDelta,
    Usage,
    VocabularyFacts,
)
from openchat_local.models.engine.remote.counting import ids_of_prompt, ids_of_text
from openchat_local.models.engine.remote.discovery import Discovered, discover
from openchat_local.models.engine.remote.faults import Broken, Refused
from openchat_local.models.engine.remote.link import Exchange, Link
from openchat_local.models.engine.remote.options import RemoteOptions
from openchat_local.models.engine.remote.requests import amended, chat_body, refuse_impossible
from openchat_local.models.engine.remote.shortening import shorter
from openchat_local.models.engine.remote.streaming import Reading
from openchat_local.models.errors import ConnectionLost, EngineError

if TYPE_CHECKING:
    import numpy as np

HEARTBEAT_SECONDS = 0.5
_TRIES = 8  # with a request that is amended, or shortened
_CANCELLED = object()


class RemoteEngine:
    """`Engine` over a URL. Nothing is sent before `load`, and then nothing of the user's; a reply
    is asked for by `generate` alone, and text is counted there only where it stays on this
    machine, or is on its way already."""

    def __init__(self, options: RemoteOptions) -> None:
        self.options = options
        self._discovering = threading.Lock()
        self._ready: tuple[Link, Discovered, LoadedModel] | None = None
        self._current: dict[int, tuple[GenerationRequest, _Stop]] = {}

    def start(self) -> None:
        """Nothing: it runs already, or not."""

    def load(self, on_progress: Callable[[float], None] | None = None) -> LoadedModel:
        return self._connected()[2]

    def generate(self, request: GenerationRequest) -> Generator[GenerationEvent, None, None]:
        link, found, model = self._connected()
        assert model.remote is not None
        refuse_impossible(request, model.remote)
        stop = _Stop()
        self._current[id(stop)] = request, stop
        try:
            yield from _Reply(link, found, model, request, stop).events()
        except (Broken, ConnectionLost):
            self._forget_what_is_known()
            raise
        finally:
            self._current.pop(id(stop), None)
            stop.now()

    def cancel(self, request: GenerationRequest | None = None) -> None:
        for asked, stop in list(self._current.values()):
            if request is None or asked is request:
                stop.now()

    def score(self, requests: Sequence[ScoreRequest]) -> Generator[Score, None, None]:
        from openchat_local.models.engine.remote.scoring import scores

        link, found, _ = self._able("scoring")
        yield from scores(link, found, requests)

    def embed(
        self,
        texts: Sequence[str | Passage],
        pooling: Pooling = "mean",
        adapter: AdapterChoice | None = None,
    ) -> np.ndarray:
        self._refuse("shows no hidden states")

    def render(self, conversation: Conversation) -> RenderedPrompt:
        self._refuse("does not show its prompts token by token")

    def count_tokens(self, conversation: Conversation) -> int:
        link, found, model = self._able("counts")
        assert model.remote is not None
        if (why := model.remote.why_not("counts")) is not None:
            raise EngineError(why)
        return len(ids_of_prompt(link, found, conversation))

    def vocabulary(self) -> VocabularyFacts:
        self._refuse("does not show its vocabulary")

    def tokenize(self, text: str) -> tuple[int, ...]:
        link, found, _ = self._able("counts")
        return ids_of_text(link, found, text)

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        self._refuse("does not show its vocabulary")

    def fit(self, request: GenerationRequest) -> PromptFitted:
        """How the prompt would fit, as far as that can be told without sending it: 0 tokens,
        where it cannot."""
        link, found, model = self._connected()
        assert model.remote is not None
        if not (model.remote.counts_drafts and model.context):
            return PromptFitted(0, 0)
        fitted = fit(
            request.conversation,
            model.context,
            lambda conversation: len(ids_of_prompt(link, found, conversation)),
            request.overflow,
            request.sampling.max_tokens,
        )
        return PromptFitted(fitted.tokens, fitted.left_out)

    def set_adapter(self, path: Path | None, scale: float = 1.0) -> LoadedModel:
        model = self.load()
        assert model.remote is not None
        if path is not None:
            raise EngineError(
                f"The adapter {path.parent.name or path.name} is a file of this machine, and "
                f"{model.remote.place} is another program: serve it there, and ask for its model."
            )
        return model

    def leave(self, chat_key: str) -> None:
        """Nothing: no state of a chat is kept here."""

    def forget(self, chat_key: str) -> None:
        """Nothing: what a server keeps is its own affair."""

    def close(self) -> None:
        self.cancel()
        self._forget_what_is_known()

    def _connected(self) -> tuple[Link, Discovered, LoadedModel]:
        with self._discovering:
            ready = self._ready
            if ready is None:
                began = time.perf_counter()
                link = Link(self.options)
                try:
                    found = discover(link)
                except BaseException:
                    link.close()
                    raise
                seconds = time.perf_counter() - began
                ready = self._ready = link, found, _described(self.options, found, seconds)
            return ready

    def _forget_what_is_known(self) -> None:
        """The next request looks again: another server may answer by then."""
        ready, self._ready = self._ready, None  # nobody waits here for a server that is slow
        if ready is not None:
            ready[0].close()

    def _able(self, ability: Any) -> tuple[Link, Discovered, LoadedModel]:
        link, found, model = self._connected()
        assert model.remote is not None
        if not getattr(found.can, ability):
            raise EngineError(model.remote.why_not(ability) or "")
        return link, found, model

    def _refuse(self, what: str) -> NoReturn:
        raise EngineError(
            f"{self.options.address.place} {what}: use a model that is here for that."
        )


class _Stop:
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


class _Reply:
    """One reply, from what fits of the conversation to its last event."""

    def __init__(
        self,
        link: Link,
        found: Discovered,
        model: LoadedModel,
        request: GenerationRequest,
        stop: _Stop,
    ) -> None:
        assert model.remote is not None
        self._link, self._found, self._model, self._remote = link, found, model, model.remote
        self._request = request
        self._stop = stop
        self._reading = Reading()
        self._text: list[str] = []
        self._began = time.perf_counter()
        self._first: float | None = None

    def events(self) -> Generator[GenerationEvent, None, None]:
        conversation, left_out, tokens = self._fitted()
        if tokens or left_out:
            yield PromptFitted(tokens, left_out)
        body = chat_body(self._request, conversation, self._found.model, self._remote)
        waited = 0.0
        for _ in range(_TRIES):
            try:
                yield from self._streamed(body)
                return
            except Refused as refusal:  # nothing was generated
                if (other := amended(body, refusal.param, refusal.said)) is not None:
                    body = other
                elif refusal.too_long:
                    cut = shorter(self._request, conversation, str(refusal))
                    left_out += len(conversation.messages) - len(cut.messages)
                    conversation = cut
                    yield PromptFitted(0, left_out)
                    body = chat_body(self._request, cut, self._found.model, self._remote)
                elif refusal.status == 429:
                    waited += self._wait(refusal, waited)
                else:
                    raise
        raise EngineError(f"{self._remote.place} does not take the request, however it is put.")

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
        text = self._reading.take(chunk)
        if text:
            self._text.append(text)
            if self._first is None:
                self._first = time.perf_counter()
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
            note=self._reading.note,
            complete=self._is_complete(),
        )

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


def _described(options: RemoteOptions, found: Discovered, seconds: float) -> LoadedModel:
    address = options.address
    place = RemotePlace(options.label, address.base, address.place, not address.loopback, found.can)
    notes = [place.in_words()]
    if not (address.loopback or address.encrypted):
        notes.append("It crosses the network unencrypted, since the URL begins with http://.")
    if unknown := sorted({"top_k", "min_p", "repeat_penalty"} - found.can.sampling):
        names = ", ".join(name.replace("_", "-") for name in unknown)
        notes.append(
            f"{address.place} knows no {names}: what the settings say of them is not sent."
        )
    return LoadedModel(
        name=f"{found.model}@{options.label}",
        path="",
        architecture="",
        context=found.context,
        context_trained=found.context_trained,
        template="remote",
        template_note=None,
        default_condition=found.condition,
        threads=0,
        gpu_layers=0,
        file_size=0,
        state_bytes_per_token=0,
        load_seconds=seconds,
        notes=tuple(notes),
        sequences=found.sequences or 8,
        remote=place,
    )
