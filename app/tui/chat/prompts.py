"""Prompts: what is written into the box, on its way to the disk and to the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from openchat_local.app.replies.stream import ReplyPlace, refuse_if_too_long
from openchat_local.app.tui.chat.attachments import Attachments
from openchat_local.app.tui.chat.completion import Completion
from openchat_local.app.tui.chat.slash import NotACommand, SlashCommand, is_command, parse
from openchat_local.app.tui.editor import edited
from openchat_local.models.errors import ContextOverflow, OpenChatError

if TYPE_CHECKING:
    from textual.widget import Widget

    from openchat_local.app.chats import StoredMessage
    from openchat_local.app.tui.chat.comparing import Comparing
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.drafts import Drafts
    from openchat_local.app.tui.chat.options import Options


class Prompts:
    """Stores prompts and has them answered; runs what is a command."""

    def __init__(
        self,
        window: WindowContext,
        options: Options,
        drafts: Drafts,
        commands: Sequence[SlashCommand],
        comparing: Comparing,
    ) -> None:
        self._window = window
        self._session = window.session
        self._pane = window.pane
        self._queue = window.queue
        self._options = options
        self._drafts = drafts
        self._commands = commands
        self._comparing = comparing
        self._attachments = Attachments(window)
        self.completion = Completion(window, commands)
        window.meter.as_prompt = self._as_prompt
        window.meter.with_files = self._attachments.expanded
        drafts.is_command = self._is_no_prompt

    @property
    def widgets(self) -> Sequence[Widget]:
        """What is shown above the prompt box, from above."""
        # What is suggested lies over what is above it: not over what goes along.
        return self._queue, self.completion.widget, self._attachments.widget

    # Writing

    def changed(self) -> None:
        """The text in the box is another one."""
        self._drafts.save_soon()
        self._window.meter.recount_soon()
        self.completion.look()
        self._attachments.look()
        self._comparing.look(self._window.prompt.text)

    def _is_no_prompt(self, text: str) -> bool:
        """Whether a text says something to the window, and nothing to the model."""
        return is_command(text, self._commands) or self._comparing.choice(text) is not None

    def loaded(self) -> None:
        """There is a model that can count."""
        self._window.meter.recount_soon(0.0)
        self._attachments.look()

    async def look_at_files(self) -> None:
        """Show all of what goes along with the prompt."""
        await self._attachments.look_at()

    def put_away(self) -> None:
        """The window closes."""
        self._attachments.put_away()

    def write_outside(self) -> None:
        """Have the prompt written in $VISUAL, $EDITOR, or what the system has. Blocks: a reply
        in progress goes on, and is shown when the window is back."""
        window = self._window
        window.notice.dismiss()
        with window.telling():
            if self._session.active.temporary:
                raise OpenChatError(
                    "An editor works on a file, and nothing of a temporary chat is on disk: "
                    "write here."
                )
            before = window.prompt.text
            after = edited(self._pane.app, before, self._session.home)
            if after != before:
                window.prompt.put(after)

    def _as_prompt(self, text: str) -> str:
        """What of a text the model would get: nothing of a command."""
        try:
            meant = parse(text, self._commands)
        except NotACommand:
            return ""
        return meant if isinstance(meant, str) else ""

    # Sending

    def enter(self, text: str, instead_of: StoredMessage | None = None) -> None:
        """Send a prompt, perhaps as a new version of an earlier one, or run the command that it
        is; in its turn."""
        window = self._window
        window.notice.dismiss()
        choice = None if instead_of is not None else self._comparing.choice(text)
        if choice is not None:
            window.in_order(partial(self._comparing.vote, choice))
            return
        self.completion.remember(text)
        try:
            meant = parse(text, self._commands)
        except NotACommand as problem:
            self._pane.give_back(text, instead_of)
            window.tell(str(problem), error=True)
            return
        if isinstance(meant, str):
            window.in_order(partial(self._send, meant, instead_of))
            return
        command, argument = meant
        if command.in_order:
            window.in_order(partial(command.run, argument))
        else:
            window.begin(partial(_run, command, argument))

    async def _send(self, text: str, instead_of: StoredMessage | None) -> None:
        """Store the prompt and answer it, now or when the reply being written has ended; an
        empty one answers the last that has no reply."""
        pane, queue = self._pane, self._queue
        if not await self._attachments.may_go(text, instead_of):
            return
        async with self._window.taking_turns():
            if (pane.busy or queue.any) and text.strip() and instead_of is None:
                queue.add(text)
                if pane.asked is not None:
                    self._window.tell(pane.why_busy)
                if not pane.busy:
                    await self._answer(queue.take_first())
                self._drafts.save_soon()
            elif pane.busy:
                self._window.give_back(text, instead_of)
                self._window.tell(pane.why_busy)
            else:
                await self._answer(text, instead_of)

    async def go_on(self, *, well: bool) -> None:
        """A reply has ended: send what waited for it. What waited for one that was stopped or
        failed is the user's again."""
        pane, queue = self._pane, self._queue
        async with self._window.taking_turns():
            if pane.busy or not queue.any:
                return
            if well:
                await self._answer(queue.take_first())
            elif pane.editing is None:  # else the box holds an earlier prompt, not what is next
                self._window.give_back(queue.drain())
            self._drafts.save_soon()

    async def _answer(self, text: str, instead_of: StoredMessage | None = None) -> None:
        """Have a prompt answered, perhaps as a new version of an earlier one; for whoever has
        the turn. Raises OpenChatError."""
        from openchat_local.app.chats import ChatStore

        if text.strip():
            chat_id: str | None = await self._store(text, instead_of)
        else:
            chat_id = self._session.active.id
            await self._window.leaving.check()
        if chat_id is None:
            return
        branch = await self._session.run(ChatStore.branch, chat_id)
        if not _is_unanswered(branch):
            return
        await self._options.prepare()
        self._pane.show(chat_id, branch)
        place = _place(branch)
        if place.under is None or not await self._comparing.answer(chat_id, place.under):
            self._pane.answer(self._session.store_of(chat_id), chat_id, place)
        await self._window.refresh_list()

    async def _store(self, text: str, instead_of: StoredMessage | None) -> str:
        """Put the prompt on disk; it comes back into the prompt if that fails."""
        try:
            await self._session.opened()
            await self._options.prepare()  # before the prompt is stored: it may raise
            await self._window.leaving.check()
            whole = await self._attachments.approved(text, instead_of)
            await self._refuse_if_too_long(whole.text, instead_of)
            chat = await self._session.send(self._session.active, whole.text, instead_of)
            if whole.problems:
                self._window.tell(" ".join(map(str, whole.problems)), stays=True)
            return chat.id
        except OpenChatError:
            # What waits behind it would otherwise wait for ever.
            self._window.give_back(self._queue.drain())
            self._window.give_back(text, instead_of)
            raise

    async def _refuse_if_too_long(self, text: str, instead_of: StoredMessage | None) -> None:
        """Raise before a prompt is stored that no reply could follow."""
        loader, pane = self._window.loader, self._pane
        if loader.engine is None or loader.loaded is None:
            return
        prompted = await self._session.prompted(text, instead_of, loader.loaded)
        try:
            await asyncio.to_thread(
                refuse_if_too_long,
                loader.engine,
                prompted.conversation,
                pane.sampling,
                pane.overflow,
            )
        except ContextOverflow:
            raise
        except OpenChatError:
            return  # of the engine; the reply will meet it too, with the prompt on disk


async def _run(command: SlashCommand, argument: str) -> None:
    await command.run(argument)


def _is_unanswered(branch: Sequence[StoredMessage]) -> bool:
    """Whether the last prompt has no reply, or none with a word in it: the engine failed, or
    was stopped."""
    return bool(branch) and (branch[-1].role == "user" or not branch[-1].content)


def _place(branch: Sequence[StoredMessage]) -> ReplyPlace:
    """Under the last prompt: a reply without a word is no turn to continue."""
    last = branch[-1]
    return ReplyPlace(under=last.id if last.role == "user" else last.parent_id)
