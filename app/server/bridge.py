"""The engine's blocking calls, from an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, closing, nullcontext, suppress
from typing import Generic, TypeVar

from openchat_local.models.engine.protocol import (
    Engine,
    GenerationEvent,
    GenerationRequest,
    Heartbeat,
    PrefillProgress,
    Score,
    ScoreRequest,
    TextDelta,
)

Result = TypeVar("Result")
Item = TypeVar("Item")
Around = Callable[[], AbstractContextManager[None]]
_QUESTIONS = 4  # threads for what is answered in a moment


class Bridge:
    """Runs the engine's calls in threads of its own, as many as can be at work at once.

    Belongs to one event loop. Whoever stops waiting for an answer ends the work for it.
    """

    def __init__(self, engine: Engine, running: int, around: Around = nullcontext) -> None:
        """`around` is entered for as long as a reply or a score is at work."""
        self._engine = engine
        self._around = around
        self._streams = ThreadPoolExecutor(running, "server-stream")
        self._questions = ThreadPoolExecutor(_QUESTIONS, "server-question")

    def close(self) -> None:
        """Let the threads go; close the engine first, or they end when their replies do."""
        self._streams.shutdown(wait=False, cancel_futures=True)
        self._questions.shutdown(wait=False, cancel_futures=True)

    async def ask(self, call: Callable[[], Result]) -> Result:
        """What `call` returns, from a thread; one that takes a moment."""
        return await asyncio.get_running_loop().run_in_executor(self._questions, call)

    async def work(self, call: Callable[[], Result]) -> Result:
        """What `call` returns, from a thread; one that takes its time and cannot be ended."""
        return await asyncio.get_running_loop().run_in_executor(self._streams, call)

    async def reply(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """The events of one reply. Closing it cancels the reply, and returns once the engine
        has let it go. Raises what `Engine.generate` does."""
        follow = self._followed(
            lambda: self._engine.generate(request), lambda: self._engine.cancel(request), _merged
        )
        async with aclosing(follow) as events:
            async for event in events:
                yield event

    async def scores(self, requests: list[ScoreRequest]) -> list[Score]:
        """The scores of `requests`, in their order. Raises what `Engine.score` does."""
        found: dict[int, Score] = {}
        follow = self._followed(lambda: self._engine.score(requests), None, None)
        async with aclosing(follow) as scores:
            async for score in scores:
                found[score.index] = score
        return [found[index] for index in range(len(requests))]

    async def _followed(
        self,
        begin: Callable[[], Iterator[Item]],
        cancel: Callable[[], None] | None,
        merge: Callable[[Item, Item], Item | None] | None,
    ) -> AsyncGenerator[Item, None]:
        """What a blocking generator yields, pumped by a thread."""
        mailbox: _Mailbox[Item] = _Mailbox(asyncio.get_running_loop(), merge)
        stopped = threading.Event()

        def pump() -> None:
            error: BaseException | None = None
            try:
                if not stopped.is_set():
                    with self._around(), closing(begin()) as items:  # type: ignore[type-var]
                        for item in items:
                            # A heart-beat comes twice a second: nobody waits longer for this.
                            if stopped.is_set():
                                break
                            mailbox.put(item)
            except BaseException as problem:  # noqa: BLE001 - raised where somebody waits
                error = problem
            mailbox.end(error)

        thread = asyncio.get_running_loop().run_in_executor(self._streams, pump)
        try:
            while (item := await mailbox.next()) is not None:
                yield item
        finally:
            stopped.set()
            if cancel is not None and not thread.done():
                cancel()
            await asyncio.shield(thread)


class _Mailbox(Generic[Item]):
    """From one thread to one event loop. What `merge` makes one of takes one place, so that it
    holds no more than the reply's text however slowly it is read."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        merge: Callable[[Item, Item], Item | None] | None,
    ) -> None:
        self._loop = loop
        self._merge = merge
        self._items: deque[Item] = deque()
        self._lock = threading.Lock()
        self._changed = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> None:
        with self._lock:
            one = None
            if self._items and self._merge is not None:
                one = self._merge(self._items[-1], item)
            if one is None:
                self._items.append(item)
            else:
                self._items[-1] = one
        self._tell()

    def end(self, error: BaseException | None) -> None:
        with self._lock:
            self._ended, self._error = True, error
        self._tell()

    async def next(self) -> Item | None:
        """The next item; None at the end. Raises what ended it."""
        while True:
            await self._changed.wait()
            with self._lock:
                if self._items:
                    return self._items.popleft()
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return None
                self._changed.clear()

    def _tell(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._changed.set)


def _merged(before: GenerationEvent, event: GenerationEvent) -> GenerationEvent | None:
    """One event that says what both do, where there is one."""
    if isinstance(before, TextDelta) and isinstance(event, TextDelta):
        return TextDelta(before.text + event.text, before.tokens + event.tokens)
    if isinstance(before, Heartbeat | PrefillProgress) and type(before) is type(event):
        return event
    return None
