"""The local engine, seen from the app: starts the child, talks to it, outlives it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.models.conversation import Conversation
from openchat_local.models.engine import wire
from openchat_local.models.engine.connection import DIED_WORKING, EngineChild, checked
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    EngineOptions,
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
    VocabularyFacts,
)
from openchat_local.models.engine.starting import Loading, Streams
from openchat_local.models.errors import EngineClosed, EngineDied, OpenChatError

if TYPE_CHECKING:
    import numpy as np

HEARTBEAT_SECONDS = 0.5
CLOSED = "The engine is closed: load the model again first."


class LocalEngine:
    """`Engine` over an `EngineChild` that is started again when it has died."""

    def __init__(self, options: EngineOptions, child: EngineChild | None = None) -> None:
        """`child` may have been spawned ahead of time; it must not be loaded yet."""
        self.options = options
        self._spawned = child
        self._lock = threading.Lock()
        self._streams = Streams()
        self._swap = threading.Lock()
        self._loading: Loading | None = None
        self._closed = False
        self.loads = 0

    @property
    def pid(self) -> int | None:
        """The child's process id, or None while there is no child."""
        loading = self._loading
        return loading.child.pid if loading is not None and loading.child.alive else None

    def start(self) -> None:
        self._started()

    def load(self, on_progress: Callable[[float], None] | None = None) -> LoadedModel:
        return self._started().wait(on_progress)

    def generate(self, request: GenerationRequest) -> Generator[GenerationEvent, None, None]:
        with self._streams.one():
            child, model = self._ready()
            frame = {"do": "generate"} | wire.pack_request(request, model.context)
            request_id, answers = child.ask(frame)
            stream = child, request_id
            self._streams.current[stream] = request
            finished = False
            try:
                while not finished:
                    event = self._next_event(child, answers)
                    finished = isinstance(event, Finished)
                    yield event
            except OpenChatError:
                finished = True
                raise
            finally:
                self._streams.current.pop(stream, None)
                child.done(request_id)
                if not finished:
                    child.tell({"do": "cancel", "id": request_id})

    def cancel(self, request: GenerationRequest | None = None) -> None:
        for (child, request_id), asked in list(self._streams.current.items()):
            if request is None or asked is request:
                child.tell({"do": "cancel", "id": request_id})

    def score(self, requests: Sequence[ScoreRequest]) -> Generator[Score, None, None]:
        packed = [wire.pack_score_request(request) for request in requests]
        with self._streams.one():
            child, _ = self._ready()
            request_id, answers = child.ask({"do": "score", "requests": packed})
            done = False
            try:
                while True:
                    frame = checked(child, answers.get(), DIED_WORKING)
                    if done := "done" in frame:
                        return
                    yield from map(wire.unpack_score, frame["scores"])
            except OpenChatError:
                done = True
                raise
            finally:
                child.done(request_id)
                if not done:
                    child.tell({"do": "cancel", "id": request_id})

    def embed(
        self,
        texts: Sequence[str | Passage],
        pooling: Pooling = "mean",
        adapter: AdapterChoice | None = None,
    ) -> np.ndarray:
        with self._streams.one():
            choice = wire.pack_choice(adapter)
            packed = [wire.pack_text(text) for text in texts]
            result = self._question(
                "embed", starts=True, texts=packed, pooling=pooling, adapter=choice
            )
        return wire.unpack_vectors(result)

    def render(self, conversation: Conversation) -> RenderedPrompt:
        result = self._question("render", conversation=wire.pack_conversation(conversation))
        return RenderedPrompt(tuple(result["ids"]), tuple(result["pieces"]))

    def count_tokens(self, conversation: Conversation) -> int:
        count: int = self._question("count", conversation=wire.pack_conversation(conversation))
        return count

    def vocabulary(self) -> VocabularyFacts:
        facts = self._question("vocabulary")
        return VocabularyFacts(**facts | {"ends": tuple(facts["ends"])})

    def tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(self._question("tokenize", text=text))

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        return [piece.encode("latin-1") for piece in self._question("pieces", ids=list(ids))]

    def fit(self, request: GenerationRequest) -> PromptFitted:
        size = self._ready(asking=True)[1].context
        return PromptFitted(**self._question("fit", **wire.pack_request(request, size)))

    def set_adapter(self, path: Path | None, scale: float = 1.0) -> LoadedModel:
        with self._swap:
            if self._loading is None or self._loading.over:
                changed = self._restarted(asking=True, adapter=path, adapter_scale=scale)
                return changed.wait(None)
            loading = self._started(asking=True)
            loading.wait(None)
            child = loading.child
            frame = {"do": "adapter", "path": path and str(path), "scale": scale}
            request_id, answers = child.ask(frame)
            try:
                result = checked(child, answers.get(), DIED_WORKING)["result"]
            finally:
                child.done(request_id)
            model = wire.unpack_model(result)
            with self._lock:
                if self._loading is not loading:  # it died since, and another has begun
                    raise EngineDied(DIED_WORKING.format(how="ended in mid-change"))
                # For the next child, when this one has died.
                self.options = replace(self.options, adapter=path, adapter_scale=scale)
                loading.describe(model)
            return model

    def set_model(
        self, path: Path, on_progress: Callable[[float], None] | None = None
    ) -> LoadedModel:
        """Load another model in place of this one, without an adapter and with its own template;
        blocks. Raises ModelFileError when there is no model in the file, and then nothing has
        changed; or what `load` raises, and then the next `load` brings back the one before.
        """
        from openchat_local.models.gguf import read_gguf

        read_gguf(path)  # a look before the one that works is given up
        with self._streams.none(), self._swap:
            restarted = self._restarted(model_path=path, adapter=None, template=None)
            return restarted.wait(on_progress)

    def leave(self, chat_key: str) -> None:
        self._tell({"do": "leave", "chat_key": chat_key})

    def forget(self, chat_key: str) -> None:
        if self.options.states_dir is not None:
            from openchat_local.models.engine.states import forget_chat

            loading = self._loading
            if loading is not None:
                loading.when_the_other_left(forget_chat, self.options.states_dir, chat_key)
            forget_chat(self.options.states_dir, chat_key)
        self._tell({"do": "forget", "chat_key": chat_key})

    def close(self) -> None:
        """End the child. A question about a prompt or a change of the adapter that was on its way
        starts no other: that takes whoever wants a model again."""
        with self._lock:
            self._closed = True
            child = self._loading.child if self._loading else self._spawned
            self._fall_back(closing=True)
            self._loading = self._spawned = None
        if child is not None:
            child.close()

    def _started(self, *, asking: bool = False) -> Loading:
        with self._lock:
            self._refuse_if_closed(asking=asking)
            loading = self._loading
            if loading is None or loading.over:
                self._fall_back()
                child, self._spawned = self._spawned or EngineChild(), None
                loading = self._loading = Loading(child, self.options)
                self.loads += 1
            return loading

    def _refuse_if_closed(self, *, asking: bool) -> None:
        """Nobody who merely asks opens what was closed; with the lock held."""
        if asking and self._closed:
            raise EngineClosed(CLOSED)
        self._closed = False

    def _fall_back(self, *, closing: bool = False) -> None:
        """Take the options from before where the model of these could not be loaded, or will
        not be any more; with the lock held."""
        loading = self._loading
        if loading is None or loading.instead_of is None or loading.loaded:
            return
        if closing or loading.over:
            self.options = loading.instead_of

    def _restarted(self, *, asking: bool = False, **changes: Any) -> Loading:
        """Another child with other options in place of this one. Both change at once: whoever
        asks for anything in between asks the new child, and waits for it."""
        with self._lock:
            self._refuse_if_closed(asking=asking)
            self._fall_back()
            before, leaving = self.options, self._loading
            options = replace(before, **changes)
            child, self._spawned = self._spawned or EngineChild(), None
            after = None if leaving is None else leaving.child
            loading = self._loading = Loading(child, options, instead_of=before, after=after)
            self.options = options
            self.loads += 1
        if after is not None:
            after.close()
        return loading

    def _ready(self, *, asking: bool = False) -> tuple[EngineChild, LoadedModel]:
        loading = self._started(asking=asking)
        model = loading.wait(None)
        return loading.child, model

    def _question(self, what: str, *, starts: bool = False, **fields: Any) -> Any:
        """What the child answers. One that `starts` is worth a child, where there is none after
        the engine was closed."""
        child, _ = self._ready(asking=not starts)
        request_id, answers = child.ask({"do": what} | fields)
        try:
            return checked(child, answers.get(), DIED_WORKING)["result"]
        finally:
            child.done(request_id)

    def _next_event(
        self, child: EngineChild, answers: queue.SimpleQueue[wire.Frame]
    ) -> GenerationEvent:
        try:
            frame = answers.get(timeout=HEARTBEAT_SECONDS)
        except queue.Empty:
            return Heartbeat()
        return wire.unpack_event(checked(child, frame, DIED_WORKING)["event"])

    def _tell(self, frame: wire.Frame) -> None:
        loading = self._loading
        if loading is not None:
            loading.child.tell(frame)
