"""One reply on its way from the engine to the store and the screen."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from textual.message import Message

from openchat_local.app.chats.thoughts import marks_of
from openchat_local.app.replies.stream import Begun, stream_reply
from openchat_local.models.engine.protocol import Finished, TextDelta, Usage
from openchat_local.models.errors import ConnectionLost, EngineDied, OpenChatError
from openchat_local.models.thoughts import ThoughtReader

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

    from openchat_local.app.chats import ChatStore, StoredMessage
    from openchat_local.app.replies.stream import ReplyPlace, StreamEvent
    from openchat_local.models.engine.context_window import Overflow
    from openchat_local.models.engine.protocol import Engine, Sampling

UPDATE_INTERVAL = 0.1


class ReplyEvent(Message):
    """Something happened to the reply in progress."""

    def __init__(self, reply: RunningReply, event: StreamEvent) -> None:
        super().__init__()
        self.reply = reply
        self.event = event


class ReplyEnded(Message):
    """The reply is closed in the store; `problem` if it ended badly."""

    def __init__(self, reply: RunningReply, problem: Exception | None) -> None:
        super().__init__()
        self.reply = reply
        self.problem = problem


class RunningReply:
    """Runs in a thread of its own and posts `ReplyEvent`s and one `ReplyEnded`.

    The window reads `text`, which `take` lets grow on the window's side.
    """

    def __init__(
        self,
        store: ChatStore,
        engine: Engine,
        chat_id: str,
        sampling: Sampling,
        place: ReplyPlace | None = None,
        overflow: Overflow = "drop-oldest",
    ) -> None:
        self.chat_id = chat_id
        self.message: StoredMessage | None = None
        self.text = ""
        self.tokens = 0
        self.usage: Usage | None = None
        self.reason = "interrupted"
        self.thought_tokens = 0
        self._reader = ThoughtReader(None)
        self._thought_until = 0.0
        self._store = store
        self._engine = engine
        self._sampling = sampling
        self._place = place
        self._overflow = overflow
        self._cancelled = threading.Event()
        self._first_token = 0.0
        self._thread: threading.Thread | None = None

    def start(self, window: MessagePump) -> None:
        self._thread = threading.Thread(target=self._run, args=(window,), name="reply", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop soon, keeping what came; harmless at any time."""
        self._cancelled.set()
        self._engine.cancel()

    def join(self, seconds: float) -> None:
        """Wait until the reply is closed in the store, but no longer than `seconds`."""
        if self._thread is not None:
            self._thread.join(seconds)

    def take(self, event: StreamEvent) -> None:
        """Note what `event` adds to the reply; for the window's side only."""
        if isinstance(event, Begun):
            self.message, self.text = event.message, event.message.content
            self._reader = ThoughtReader(marks_of(event.message))
            self._reader.feed(self.text)
        elif isinstance(event, TextDelta):
            self._first_token = self._first_token or time.monotonic()
            self.text += event.text
            self.tokens += event.tokens
            self._count_thoughts(event)
        elif isinstance(event, Finished):
            self.usage = event.usage
            self.reason = event.reason

    def _count_thoughts(self, event: TextDelta) -> None:
        """As near as pieces of several tokens tell; the engine counts them one by one."""
        before = self._reader.place
        self._reader.feed(event.text)
        if "thought" in (before, self._reader.place):
            self.thought_tokens += event.tokens
            self._thought_until = time.monotonic()

    @property
    def thinking(self) -> bool:
        """Whether it has yet to come to its answer."""
        return self._reader.place == "thought"

    @property
    def thought_seconds(self) -> float:
        """For how long it has thought."""
        if not self.thought_tokens:
            return 0.0
        until = time.monotonic() if self.thinking else self._thought_until
        return until - self._first_token

    def ended(self) -> StoredMessage | None:
        """The reply's row as it is now that it was closed; None if it never had one."""
        if self.message is None:
            return None
        return replace(
            self.message,
            content=self.text,
            finish_reason=self.reason,
            usage=None if self.usage is None else asdict(self.usage),
            instance=None,
        )

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    @property
    def tokens_per_second(self) -> float | None:
        """The speed so far; None until it means something."""
        if self.usage is not None:
            return self.usage.tokens_per_second
        seconds = time.monotonic() - self._first_token
        return self.tokens / seconds if self._first_token and seconds > 0.5 else None

    def _run(self, window: MessagePump) -> None:
        problem: Exception | None = None
        events = stream_reply(
            self._store,
            self._engine,
            self.chat_id,
            self._sampling,
            place=self._place,
            overflow=self._overflow,
            update_interval=UPDATE_INTERVAL,
        )
        try:
            with closing(events):
                for event in events:
                    window.post_message(ReplyEvent(self, event))
                    # `Engine.cancel` before the engine had begun went unheard.
                    if self._cancelled.is_set():
                        self._engine.cancel()
        except OpenChatError as error:
            self.reason = reason_of(error)
            problem = error
        except Exception as bug:  # noqa: BLE001 - the window's thread raises it again
            problem = bug
        window.post_message(ReplyEnded(self, problem))


def reason_of(error: OpenChatError) -> str:
    from openchat_local.app.chats import ChatStoreError

    if isinstance(error, EngineDied | ConnectionLost):
        return "engine died"
    return "not saved" if isinstance(error, ChatStoreError) else "refused"
