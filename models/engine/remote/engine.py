"""An engine that is another program: `Engine` over an OpenAI-compatible URL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.capabilities import RemotePlace
from openchat_local.models.engine.context_window import fit
from openchat_local.models.engine.protocol import (
    AdapterChoice,
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
from openchat_local.models.engine.remote.counting import ids_of_prompt, ids_of_text
from openchat_local.models.engine.remote.discovery import Discovered, discover
from openchat_local.models.engine.remote.faults import Broken
from openchat_local.models.engine.remote.link import Link
from openchat_local.models.engine.remote.options import RemoteOptions
from openchat_local.models.engine.remote.reply import Reply, Stop
from openchat_local.models.engine.remote.requests import refuse_impossible
from openchat_local.models.errors import ConnectionLost, EngineError
from openchat_local.models.thoughts import USUAL

if TYPE_CHECKING:
    import numpy as np


class RemoteEngine:
    """`Engine` over a URL. Nothing is sent before `load`, and then nothing of the user's; a reply
    is asked for by `generate` alone, and text is counted there only where it stays on this
    machine, or is on its way already."""

    def __init__(self, options: RemoteOptions) -> None:
        self.options = options
        self._discovering = threading.Lock()
        self._ready: tuple[Link, Discovered, LoadedModel] | None = None
        self._current: dict[int, tuple[GenerationRequest, Stop]] = {}

    @property
    def place(self) -> RemotePlace:
        """Where it answers, and what it can do as far as that is known."""
        ready = self._ready
        if ready is not None and ready[2].remote is not None:
            return ready[2].remote
        return self.options.place()

    def start(self) -> None:
        """Nothing: it runs already, or not."""

    def load(self, on_progress: Callable[[float], None] | None = None) -> LoadedModel:
        return self._connected()[2]

    def generate(self, request: GenerationRequest) -> Generator[GenerationEvent, None, None]:
        link, found, model = self._connected()
        assert model.remote is not None
        refuse_impossible(request, model.remote)
        stop = Stop()
        self._current[id(stop)] = request, stop
        try:
            yield from Reply(link, found, model, request, stop).events()
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

    def prompt_ids(self, conversation: Conversation) -> tuple[int, ...]:
        """The ids of the prompt for the next reply. Raises EngineError."""
        link, found, _ = self._able("counts")
        return ids_of_prompt(link, found, conversation)

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


def _described(options: RemoteOptions, found: Discovered, seconds: float) -> LoadedModel:
    address = options.address
    place = options.place(found.can)
    notes = [place.in_words()]
    if not (address.loopback or address.encrypted):
        what = "It crosses" if options.key_name is None else "It and the API key cross"
        notes.append(f"{what} the network unencrypted, since the URL begins with http://.")
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
        thoughts=USUAL if found.thinks else None,
        thinking_switch=found.can.thinking,
        remote=place,
    )
