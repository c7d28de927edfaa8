"""Short words for talking to an engine in tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from openchat_local.models.conversation import Conversation, Message, Role, SampledIds
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


def said(text: str, finished: Finished) -> Message:
    """A reply as a later turn carries it, with the ids that it was sampled as."""
    return Message("assistant", text, SampledIds.of(finished.token_ids, finished.vocabulary))


def asking(*turns: str | Message, system: str = "", **sampling: Any) -> GenerationRequest:
    """A request of alternating user and assistant turns; greedy unless said otherwise, and without
    drafts: how many there are depends on the clock, and on a quantised model a token may on it."""
    roles: tuple[Role, Role] = ("user", "assistant")
    messages = [
        turn if isinstance(turn, Message) else Message(roles[index % 2], turn)
        for index, turn in enumerate(turns)
    ]
    if system:
        messages.insert(0, Message("system", system))
    settings = {"temperature": 0.0, "max_tokens": 24} | sampling
    conversation = Conversation(tuple(messages))
    return GenerationRequest(conversation, Sampling(**settings), speculate=False)


def run(engine: Engine, request: GenerationRequest) -> tuple[str, Finished]:
    """The whole reply and its last event."""
    events = list(engine.generate(request))
    last = events[-1]
    assert isinstance(last, Finished)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), last
