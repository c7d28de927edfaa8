"""Several replies at once, and their events in one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from openchat_local.app.server.errors import ended, told
from openchat_local.app.server.state import Serving
from openchat_local.models.engine.protocol import (
    Finished,
    GenerationEvent,
    GenerationRequest,
    Heartbeat,
    PromptFitted,
    TextDelta,
)
from openchat_local.models.errors import OpenChatError

Numbered = tuple[int, GenerationEvent]
_STREAMED, _AMONG_OTHERS, _WHOLE = 0.05, 0.1, 3600.0


def update_interval(serving: Serving, *, streamed: bool) -> float:
    """Seconds between two pieces of a reply that somebody reads as it comes (`streamed`), and of
    one that nobody does: pieces cost the cores that decode, the more the more replies there are."""
    if not streamed:
        return _WHOLE
    return _AMONG_OTHERS if serving.places.taken else _STREAMED


@dataclass(frozen=True, slots=True)
class Written:
    """A whole reply."""

    text: str
    finished: Finished


async def all_events(
    serving: Serving, requests: Sequence[GenerationRequest]
) -> AsyncGenerator[Numbered, None]:
    """The events of all `requests`, each with its request's number, as they come. Closing it
    cancels what is not finished. Raises ApiError."""
    events: asyncio.Queue[tuple[int, GenerationEvent | Exception]] = asyncio.Queue(
        2 * len(requests)
    )

    async def follow(number: int, request: GenerationRequest) -> None:
        try:
            async with serving.places.turn(), aclosing(serving.bridge.reply(request)) as replies:
                async for event in replies:
                    await events.put((number, event))
        except Exception as error:  # noqa: BLE001 - raised where somebody waits
            await events.put((number, error))

    with serving.places.reserved(len(requests)):
        tasks = [asyncio.create_task(follow(*one)) for one in enumerate(requests)]
        begun = [False] * len(requests)
        left = len(requests)
        try:
            while left:
                number, event = await events.get()
                if isinstance(event, OpenChatError):
                    context = serving.loaded.context
                    raise told(event, context, begun=begun[number]) from event
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, TextDelta):
                    begun[number] = True
                if isinstance(event, Finished):
                    if event.reason == "cancelled":  # not by us: who cancels has stopped reading
                        raise ended()
                    left -= 1
                    serving.metrics.reply(event.usage)
                yield number, event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def written(serving: Serving, requests: Sequence[GenerationRequest]) -> list[Written]:
    """All replies, whole. Raises ApiError."""
    texts = [""] * len(requests)
    ends: dict[int, Finished] = {}
    async with aclosing(all_events(serving, requests)) as events:
        async for number, event in events:
            if isinstance(event, TextDelta):
                texts[number] += event.text
            elif isinstance(event, Finished):
                ends[number] = event
    return [Written(text, ends[number]) for number, text in enumerate(texts)]


async def begun(events: AsyncGenerator[Numbered, None]) -> list[Numbered]:
    """The first events, as far as it takes to know that nothing is refused: from then on a
    client can be told that all is well. Raises ApiError."""
    first: list[Numbered] = []
    fitted = False
    async for number, event in events:
        if isinstance(event, PromptFitted):
            fitted = True
        # What is refused after the prompt was found to fit, is so at once.
        elif fitted or not isinstance(event, Heartbeat):
            first.append((number, event))
            break
        first.append((number, event))
    return first
