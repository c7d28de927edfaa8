"""What all parts of the chat window share: the open chat, the widgets, and whose turn it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from openchat_local.app.settings.who_answers import answerer
from openchat_local.app.tui.chat.counting import Counter
from openchat_local.app.tui.chat.queueing import Queue
from openchat_local.app.tui.keys import when_heard
from openchat_local.app.tui.session import OpenChat
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage
    from openchat_local.app.tui.session import Session
    from openchat_local.app.tui.widgets.chat_list import ChatList
    from openchat_local.app.tui.widgets.chat_pane import ChatPane


TEMPORARY_WELCOME = (
    "Nothing of this chat is ever written to disk, no draft and no state of the model either.\n"
    "It is in the list, and in no search, until the window closes; then nothing of it is left."
)
BUSY = "A reply is being written: wait for it, or press Esc to stop it."


class WindowContext:
    """The desk, the pane and the list, and what more than one part does with them."""

    def __init__(self, desk: Session, pane: ChatPane, chats: ChatList) -> None:
        self.desk = desk
        self.pane = pane
        self.list = chats
        self.counter = Counter(desk, pane)
        self.queue = Queue()
        self.when_listed: Callable[[], None] = lambda: None
        """Called when the list has been read anew."""
        # Whatever changes the open chat or its prompt takes its turn: half of one such
        # change after half of another would put a draft into the wrong chat.
        self._turn = asyncio.Lock()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tell the user what went wrong inside, in one sentence."""
        try:
            yield
        except OpenChatError as problem:
            self.pane.notice.tell(str(problem), error=True)

    @asynccontextmanager
    async def taking_turns(self) -> AsyncIterator[None]:
        """Nothing else changes the open chat inside; problems are told."""
        from openchat_local.app.chats import ChatNotFound

        async with self._turn:
            with self.telling():
                try:
                    yield
                except ChatNotFound:
                    if not await self.leave_if_gone():
                        raise

    @property
    def in_turn(self) -> bool:
        """Whether something is changing the open chat, or waits for the store to do so."""
        return self._turn.locked()

    async def leave_if_gone(self) -> bool:
        """Begin a new chat with the prompt as it is, if the open one was deleted elsewhere."""
        chat_id = self.desk.shown.id
        if chat_id is None or not await self.desk.is_gone(chat_id):
            return False
        self.forget(chat_id)
        self.show_new_chat(self.queue.before(self.pane.prompt.text))
        self.pane.notice.tell("This chat was deleted elsewhere: your next prompt begins a new one.")
        await self.refresh_list()
        return True

    def lay_open(self, shown: OpenChat, branch: Sequence[StoredMessage]) -> None:
        """Show another chat: here, in the pane and in the list in one step, so that no key
        that comes in between means one chat here and another there."""
        self.desk.shown = shown
        self.list.mark_open(shown.id)
        self.pane.show(shown.id, branch)

    def show_new_chat(self, prompt: str = "", *, temporary: bool = False) -> None:
        """Lay out a chat that has no row yet, with `prompt` unsent."""
        self.queue.drain()
        self.lay_open(OpenChat(temporary=temporary), ())
        if temporary:
            self.pane.transcript.show_text(TEMPORARY_WELCOME)
        if prompt != self.pane.prompt.text:
            self.pane.prompt.put(prompt)
        self.pane.prompt.focus()
        self.counter.recount_soon(0.0)

    def chat_meant(self) -> Awaitable[str | None]:
        """The chat that a command is about: the one under the list's cursor while the user is
        in the list, else the open one; None where that has no row yet. As it is when every key
        that was pressed before this call has had its effect, and none that comes after."""
        meant: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

        def now() -> None:
            chat_id = self.list.under_cursor if self.list.has_focus else None
            meant.set_result(chat_id or self.desk.shown.id)

        when_heard(self.pane.screen, now)
        return meant

    def show_answerer(self) -> None:
        """Say in the status bar who gives the next reply."""
        if (loaded := self.pane.room.loaded) is not None:
            self.pane.set_status(model=answerer(self.desk.held(), loaded).in_words())

    async def refresh_list(self) -> None:
        """Show the chats as they are on disk now."""
        self.list.show(await self.desk.chats(), self.desk.shown.id)
        self.when_listed()

    def forget(self, chat_id: str) -> None:
        """Have the engine drop the KV state of a chat that is gone."""
        if (engine := self.pane.room.engine) is not None:
            engine.forget(chat_id)
