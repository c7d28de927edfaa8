"""What all parts of the chat window share: the active chat, the widgets, and whose turn it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from openchat_local.app.settings.who_answers import answerer
from openchat_local.app.tui.chat.leaving import Leaving, mark_of
from openchat_local.app.tui.chat.meter import Meter
from openchat_local.app.tui.chat.order import Order, Place
from openchat_local.app.tui.session import ActiveChat
from openchat_local.app.tui.widgets.queued_prompts import QueuedPrompts
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from textual.screen import Screen
    from textual.worker import Worker

    from openchat_local.app.chats import StoredMessage
    from openchat_local.app.tui.session import Session
    from openchat_local.app.tui.widgets.chat_list import ChatList
    from openchat_local.app.tui.widgets.chat_pane import ChatPane
    from openchat_local.app.tui.widgets.options_panel import OptionsPanel
    from openchat_local.models.engine.capabilities import RemotePlace

Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class Unsent:
    """What was written in a chat that is about to be left."""

    text: str = ""


TEMPORARY_WELCOME = (
    "Nothing of this chat is ever written to disk, no draft and no state of the model either.\n"
    "It is in the list, and in no search, until the window closes; then nothing of it is left."
)
KEPT_NOWHERE = "temporary · nothing of this chat is kept on disk"
BUSY = "A reply is being written: wait for it, or press Esc to stop it."


class WindowContext:
    """The session and the widgets, and what more than one part does with them."""

    def __init__(
        self, session: Session, pane: ChatPane, chats: ChatList, panel: OptionsPanel
    ) -> None:
        self.session = session
        self.pane = pane
        self.list = chats
        self.panel = panel
        self.prompt = pane.prompt
        self.transcript = pane.transcript
        self.notice = pane.notice
        self.loader = pane.loader
        self.queue = QueuedPrompts()
        self.meter = Meter(session, pane)
        self.leaving = Leaving(session, pane.loader, self.places)
        # Whatever changes the active chat or its prompt takes its turn: half of one such
        # change after half of another would put a draft into the wrong chat.
        self._order = Order()
        self.who_answers: Callable[[], str | None] = lambda: None
        """Who gives the next reply of the active chat, where it is not one alone."""
        self.also_asked: Callable[[], Sequence[RemotePlace] | None] = lambda: None
        """Where the next reply is asked for, where that is not the one engine of the window."""
        self._taken_out: list[Unsent] = []
        """The unsent words of chats that are about to be left, in the order of that."""

    # Work and words

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]], group: str = "") -> None:
        """Run `work` while the window goes on; within a group the newest alone counts.

        The function itself is passed, not its coroutine: one that is overtaken never begins.
        """
        name = group or "default"
        _: Worker[None] = self.pane.run_worker(work, group=name, exclusive=bool(group))

    def in_order(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do `work` when all has been done that was asked for before this call, and before
        anything that is asked for after it."""
        self.begin(partial(_in_its_turn, self._order.take(), work))

    def let_others(self) -> None:
        """What is asked for later need not wait for the rest of what is being done here."""
        if (place := self._order.mine) is not None:
            place.give_up()

    def tell(self, sentence: str, *, error: bool = False, stays: bool = False) -> None:
        """Show a sentence above the prompt; see `Notice.tell`."""
        self.notice.tell(sentence, error=error, stays=stays)

    async def ask(self, question: Screen[Answer]) -> Answer | None:
        """What the user answers on a screen laid over the window; None for Esc. Nothing waits
        for that."""
        self.let_others()
        return await self.pane.app.push_screen_wait(question)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tell the user what went wrong inside, in one sentence."""
        try:
            yield
        except OpenChatError as problem:
            self.tell(str(problem), error=True)

    @asynccontextmanager
    async def taking_turns(self) -> AsyncIterator[None]:
        """Nothing else changes the active chat inside; problems are told. Who has the turn
        already keeps it."""
        from openchat_local.app.chats import ChatNotFound

        async with nullcontext() if self._order.mine else self._order.take():
            with self.telling():
                try:
                    yield
                except ChatNotFound:
                    if not await self.leave_if_gone():
                        raise

    @property
    def in_turn(self) -> bool:
        """Whether something is changing the active chat, or waits for the store to do so."""
        return self._order.busy

    # The active chat

    def lay_open(self, active: ActiveChat, branch: Sequence[StoredMessage]) -> None:
        """Show another chat: here, in the pane, in the list and in the panel in one step, so
        that no key that comes in between means one chat here and another there."""
        self.session.active = active
        self.list.mark_open(active.id)
        self.pane.show(active.id, branch)
        self.prompt.border_title = KEPT_NOWHERE if active.temporary else ""
        self.show_options()

    def show_new_chat(self, *, temporary: bool = False) -> None:
        """Lay out a chat that has no row yet; what is in the box is unsent in it."""
        self.queue.drain()
        self.lay_open(ActiveChat(temporary=temporary), ())
        if temporary:
            self.pane.welcome(TEMPORARY_WELCOME)
        self.prompt.focus()
        self.meter.recount_soon(0.0)

    async def leave_if_gone(self) -> bool:
        """Begin a new chat with the prompt as it is, if the active one was deleted elsewhere."""
        from openchat_local.app.chats import ChatNotFound, ChatStore

        chat_id = self.session.active.id
        if chat_id is None:
            return False
        try:
            await self.session.run(ChatStore.chat, chat_id)
        except ChatNotFound:
            self.forget(chat_id)
            edited = self.prompt.text if self.pane.editing else ""
            queued = self.queue.drain()
            self.show_new_chat()
            self.give_back(edited)
            self.give_back(queued)
            self.tell("This chat was deleted elsewhere: your next prompt begins a new one.")
            await self.refresh_list()
            return True
        return False

    def forget(self, chat_id: str) -> None:
        """Have the engine drop the KV state of a chat that is gone."""
        if (engine := self.loader.engine) is not None:
            engine.forget(chat_id)

    # Its unsent words

    def leave_for(self, chat_id: str | None) -> Unsent:
        """Take the unsent words out of the box, at the moment when another chat is asked for:
        what is typed from then on belongs to that one. None is a new chat. Nothing is taken
        where the chat lies open already."""
        unsent = Unsent()
        if self._order.busy or chat_id is None or chat_id != self.session.active.id:
            unsent.text = self.pane.take_unsent()
            self._taken_out.append(unsent)
        return unsent

    @property
    def unsent(self) -> str:
        """The unsent words of the active chat: in the box, unless another chat was asked for."""
        return self._taken_out[0].text if self._taken_out else self.prompt.unsent

    def leaves(self, unsent: Unsent) -> str:
        """The words that were taken out, all of them now that it is the turn of what they were
        taken out for."""
        if unsent in self._taken_out:
            self._taken_out.remove(unsent)
        return unsent.text

    def stays(self, text: str) -> None:
        """Put words of the active chat before those that were written in it since."""
        if self._taken_out:
            self._taken_out[0].text = text + self._taken_out[0].text
        elif text:
            self.prompt.put(text + self.prompt.text)

    def give_back(self, text: str, instead_of: StoredMessage | None = None) -> None:
        """Put what could not be sent before what was written since, on lines of its own; or
        have it edited again, if it was to be a new version of an earlier prompt."""
        if not self._taken_out:
            self.pane.give_back(text, instead_of)
        elif text:
            self.stays(f"{text}\n" if self.unsent else text)

    # What is shown of it beside the conversation

    def show_options(self) -> None:
        """Other options are in force: say in the status bar who gives the next reply, and in
        the panel how."""
        session, loaded = self.session, self.loader.loaded
        now = session.options()
        if loaded is not None:
            who = answerer(now, loaded)
            mark = mark_of(self.places())
            self.pane.set_status(model=self.who_answers() or who.in_words(), mark=mark)
            self.transcript.set_answerer(who)
        if self.panel.shown:
            self.panel.show(now, session.active.chat, loaded, sorted(session.settings.presets))

    def places(self) -> Sequence[RemotePlace]:
        """Where the words of the next reply would go, beside this program."""
        asked, place = self.also_asked(), self.loader.place
        if asked is not None:
            return asked
        return () if place is None else (place,)

    async def refresh_list(self) -> None:
        """Show the chats as they are on disk now."""
        self.list.show(await self.session.chats(), self.session.active.id)
        if self.panel.shown:
            self.show_options()


async def _in_its_turn(place: Place, work: Callable[[], Awaitable[object]]) -> None:
    async with place:
        await work()
