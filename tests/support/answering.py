"""An engine that answers what it is told to: for what is done with answers."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace

from openchat_local.models.engine.protocol import (
    Engine,
    Finished,
    GenerationEvent,
    GenerationRequest,
    TextDelta,
    Usage,
)
from openchat_local.models.errors import OpenChatError

_USAGE = Usage(0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0)

Says = Callable[[str, int | None], str | OpenChatError]
"""The reply to a prompt, drawn with a seed, or what is raised instead."""


class AnsweringEngine(Engine):
    """`says` makes the replies, a word a token; those longer than `max_tokens` are cut there. What
    was asked is in `asked`."""

    def __init__(self, says: Says) -> None:
        self._says = says
        self.asked: list[GenerationRequest] = []

    def generate(self, request: GenerationRequest) -> Generator[GenerationEvent, None, None]:
        self.asked.append(request)
        sampling = request.sampling
        reply = self._says(request.conversation.messages[-1].content, sampling.seed)
        if isinstance(reply, OpenChatError):
            raise reply
        words = reply.split(" ")
        cut = sampling.max_tokens is not None and len(words) > sampling.max_tokens
        words = words[: sampling.max_tokens]
        yield TextDelta(" ".join(words), len(words))
        usage = replace(_USAGE, generated_tokens=len(words))
        yield Finished("length" if cut else "stop", usage, ())
