"""The engine of a server on this machine, for a window that this server has opened: the model is
loaded once, and whoever asks for replies sees no difference."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.context_window import fit
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    Finished,
    GenerationEvent,
    GenerationRequest,
    LoadedModel,
    Passage,
    Pooling,
    PromptFitted,
    RenderedPrompt,
    Score,
    ScoreRequest,
    VocabularyFacts,
)
from openchat_local.models.engine.remote.engine import RemoteEngine
from openchat_local.models.engine.remote.options import RemoteOptions
from openchat_local.models.errors import EngineError
from openchat_local.models.library.adapter_file import FILE_NAME, adapter_name
from openchat_local.models.library.adapters import AdapterLibrary

if TYPE_CHECKING:
    import numpy as np


class SharedEngine:
    """`Engine` whose replies come from the server that `options` name, and all that the vocabulary
    is enough for from `vocabulary`, an engine that has no more of the same model. Adapters are the
    server's models of their own: those of `library`, as strong as that says, and the one that both
    were started with. A reply that is asked of another is refused with EngineError."""

    def __init__(
        self, options: RemoteOptions, vocabulary: LocalEngine, library: AdapterLibrary
    ) -> None:
        self._options = options
        self._library = library
        self._given = vocabulary.options.adapter
        self._vocabulary = vocabulary
        self._remotes: dict[str, RemoteEngine] = {}
        self._asked: dict[int, tuple[GenerationRequest, RemoteEngine, GenerationRequest]] = {}
        self._adapter = AdapterChoice(self._given, vocabulary.options.adapter_scale)
        self._served: LoadedModel | None = None

    def start(self) -> None:
        self._vocabulary.start()

    def load(self, on_progress: Callable[[float], None] | None = None) -> LoadedModel:
        own = self._vocabulary.load(on_progress)
        served = self._served = self._served or self._remote(own.name).load()
        return replace(own, context=served.context, sequences=served.sequences, notes=own.notes)

    def generate(self, request: GenerationRequest) -> Generator[GenerationEvent, None, None]:
        engine, asked = self._for(request)
        self._asked[id(request)] = request, engine, asked
        name = self._name(request.adapter)
        try:
            for event in engine.generate(asked):
                yield replace(event, adapter=name) if isinstance(event, Finished) else event
        finally:
            self._asked.pop(id(request), None)

    def cancel(self, request: GenerationRequest | None = None) -> None:
        for own, engine, asked in list(self._asked.values()):
            if request is None or own is request:
                engine.cancel(asked)

    def score(self, requests: Sequence[ScoreRequest]) -> Generator[Score, None, None]:
        asked: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            asked.setdefault(self._id(request.adapter), []).append(number)
        for model, numbers in asked.items():
            some = [replace(requests[number], adapter=None) for number in numbers]
            for score in self._remote(model).score(some):
                yield replace(score, index=numbers[score.index])

    def embed(
        self,
        texts: Sequence[str | Passage],
        pooling: Pooling = "mean",
        adapter: AdapterChoice | None = None,
    ) -> np.ndarray:
        raise EngineError("A window in a browser embeds nothing: open one in a terminal for that.")

    def render(self, conversation: Conversation) -> RenderedPrompt:
        return self._vocabulary.render(conversation)

    def count_tokens(self, conversation: Conversation) -> int:
        return self._vocabulary.count_tokens(conversation)

    def vocabulary(self) -> VocabularyFacts:
        return self._vocabulary.vocabulary()

    def tokenize(self, text: str) -> tuple[int, ...]:
        return self._vocabulary.tokenize(text)

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        return self._vocabulary.pieces(ids)

    def fit(self, request: GenerationRequest) -> PromptFitted:
        fitted = fit(  # here, as often as somebody types
            request.conversation,
            self.load().context,
            self.count_tokens,
            request.overflow,
            request.sampling.max_tokens,
        )
        return PromptFitted(fitted.tokens, fitted.left_out)

    def set_adapter(self, path: Path | None, scale: float = 1.0) -> LoadedModel:
        choice = AdapterChoice(path, scale)
        self._name(choice)  # which refuses what the server does not have
        self._vocabulary.set_adapter(path, scale)
        self._adapter = choice
        return self.load()

    def leave(self, chat_key: str) -> None:
        """Nothing: the server keeps no state of this window's chats."""

    def forget(self, chat_key: str) -> None:
        self._vocabulary.forget(chat_key)  # what a window in a terminal has kept of it

    def close(self) -> None:
        for engine in list(self._remotes.values()):
            engine.close()
        self._vocabulary.close()

    def _for(self, request: GenerationRequest) -> tuple[RemoteEngine, GenerationRequest]:
        """The server's model that is asked, and what it is asked. Its states are not those of a
        chat, and so would outlive a chat that is deleted: none is kept."""
        engine = self._remote(self._id(request.adapter))
        return engine, replace(request, adapter=None, chat_key=None)

    def _id(self, choice: AdapterChoice | None) -> str:
        """What the server calls the model with this adapter."""
        base, name = self._vocabulary.load().name, self._name(choice)
        return base if name is None else f"{base}:{name}"

    def _name(self, choice: AdapterChoice | None) -> str | None:
        path, scale = (choice or self._adapter).path, (choice or self._adapter).scale
        if path is None:
            return None
        name = adapter_name(path)
        installed = path == self._library.folder / name / FILE_NAME
        if not installed and path != self._given:  # the server may have another of that name
            raise EngineError(
                f"{path} is no adapter of the server that answers here: install it with "
                "`openchat-local adapters add`."
            )
        theirs = self._library.scale(name) if installed else 1.0
        if scale != theirs:
            raise EngineError(
                f"The server that answers here multiplies the effect of {name} by {theirs:g}, not "
                f"by {scale:g}: change that with `openchat-local adapters scale`, or compare both "
                "in a terminal."
            )
        return name

    def _remote(self, model: str) -> RemoteEngine:
        if model not in self._remotes:
            self._remotes[model] = RemoteEngine(replace(self._options, model=model))
        return self._remotes[model]
