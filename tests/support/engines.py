"""Short words for talking to an engine in tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    Engine,
    EngineOptions,
    Finished,
    GenerationRequest,
    LoadedModel,
    Sampling,
    TextDelta,
)


class SlowDiskEngine(LocalEngine):
    """Loads only once `may_load` is set, however fast the machine."""

    def __init__(self, options: EngineOptions) -> None:
        super().__init__(options)
        self.may_load = threading.Event()

    def load(self, on_progress: Callable[[float], None] | None = None) -> LoadedModel:
        self.may_load.wait()
        return super().load(on_progress)

    def close(self) -> None:
        self.may_load.set()
        super().close()


def asking(*turns: str, system: str = "", **sampling: Any) -> GenerationRequest:
    """A request of alternating user and assistant turns; greedy unless said otherwise."""
    roles = ("user", "assistant")
    messages = [Message(roles[index % 2], text) for index, text in enumerate(turns)]
    if system:
        messages.insert(0, Message("system", system))
    settings = {"temperature": 0.0, "max_tokens": 24} | sampling
    return GenerationRequest(Conversation(tuple(messages)), Sampling(**settings))


def run(engine: Engine, request: GenerationRequest) -> tuple[str, Finished]:
    """The whole reply and its last event."""
    events = list(engine.generate(request))
    last = events[-1]
    assert isinstance(last, Finished)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), last
