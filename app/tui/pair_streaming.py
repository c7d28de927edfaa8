"""Two replies to one prompt on their way from the engine to the store and the screen."""

from __future__ import annotations

import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from textual.message import Message

from openchat_local.app.replies.paired import begin_pair, stream_half
from openchat_local.app.tui.streaming import UPDATE_INTERVAL
from openchat_local.models.engine.protocol import Finished
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

    from openchat_local.app.chats import ChatStore, Vote
    from openchat_local.app.replies.paired import Answering, BegunPair, Half
    from openchat_local.app.replies.stream import StreamEvent
    from openchat_local.models.engine.context_window import Overflow
    from openchat_local.models.engine.protocol import Engine, Sampling


class PairEvent(Message):
    """Something happened to one reply, 0 or 1 in the order in which they are shown."""

    def __init__(self, pair: RunningPair, side: int, event: StreamEvent) -> None:
        super().__init__()
        self.pair = pair
        self.side = side
        self.event = event


class PairEnded(Message):
    """Both replies are closed in the store; `problem` if it ended badly."""

    def __init__(self, pair: RunningPair, problem: Exception | None) -> None:
        super().__init__()
        self.pair = pair
        self.problem = problem


class RunningPair:
    """Runs in two threads of its own and posts `PairEvent`s and one `PairEnded`.

    A pair that was given up, or of which a reply failed, is none any more when `PairEnded`
    comes; but while somebody `is_voting`, stopping it is part of the vote.
    """

    def __init__(
        self,
        store: ChatStore,
        engines: tuple[Engine, Engine],
        chat_id: str,
        prompt_id: str,
        both: tuple[Answering, Answering],
        sampling: Sampling,
        overflow: Overflow = "drop-oldest",
    ) -> None:
        self.chat_id = chat_id
        self.prompt_id = prompt_id
        self.vote: Vote | None = None
        self.is_voting = False
        self._store = store
        self._engines = engines
        self._both = both
        self._sampling = sampling
        self._overflow = overflow
        self._cancelled = threading.Event()
        self._finished = [False, False]
        self._problems: list[Exception] = []
        self._thread: threading.Thread | None = None

    def start(self, window: MessagePump) -> None:
        self._thread = threading.Thread(target=self._run, args=(window,), name="pair", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop both soon, keeping what came; harmless at any time."""
        self._cancelled.set()
        for engine in self._engines:
            engine.cancel()

    def join(self, seconds: float) -> None:
        """Wait until both are closed in the store, but no longer than `seconds`."""
        if self._thread is not None:
            self._thread.join(seconds)

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def _run(self, window: MessagePump) -> None:
        try:
            begun = begin_pair(
                self._store,
                self._engines,
                self.prompt_id,
                self._both,
                self._sampling,
                overflow=self._overflow,
                update_interval=UPDATE_INTERVAL,
            )
        except Exception as problem:  # noqa: BLE001 - the window's thread raises a bug again
            window.post_message(PairEnded(self, problem))
            return
        self.vote = begun.vote
        self._write(begun, window)
        complete = all(self._finished) and not self._problems
        if not self.is_voting and (self.cancelled or not complete):
            with suppress(OpenChatError):  # with the chat it is gone anyway
                self._store.drop_pair(begun.vote.id)
        window.post_message(PairEnded(self, self._problems[0] if self._problems else None))

    def _write(self, begun: BegunPair, window: MessagePump) -> None:
        """Both at once, until both are closed."""
        other = threading.Thread(
            target=self._write_half, args=(1, begun.halves[1], window), name="reply", daemon=True
        )
        other.start()
        self._write_half(0, begun.halves[0], window)
        other.join()

    def _write_half(self, side: int, half: Half, window: MessagePump) -> None:
        try:
            with closing(stream_half(self._store, half)) as events:
                for event in events:
                    if isinstance(event, Finished):
                        self._finished[side] = True
                    window.post_message(PairEvent(self, side, event))
                    # `Engine.cancel` before the engine had begun went unheard.
                    if self._cancelled.is_set():
                        half.engine.cancel()
        except Exception as problem:  # noqa: BLE001 - the window's thread raises a bug again
            self._problems.append(problem)
            self.cancel()  # of one reply nobody makes a pair
