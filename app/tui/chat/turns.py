"""What is done with a message of the open chat: answered again, edited, rated, copied."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from openchat_local.app.chats.thoughts import answer_of
from openchat_local.app.replies.stream import ReplyPlace
from openchat_local.app.tui.chat.reasons import ask_why
from openchat_local.app.tui.clipboard import copy, remove_copy
from openchat_local.app.tui.markdown.code import code_blocks
from openchat_local.app.tui.markdown.sections import has_thoughts
from openchat_local.app.tui.questions.choose_code import ChooseCode
from openchat_local.app.tui.questions.edit_reply import EditReply

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.options import Options

CONTINUED = frozenset({"length", "cancelled", "engine died", "interrupted", "not saved"})
"""How a reply may have ended that can be continued."""
NO_FILE = "No file went along with this message."
COPYING = frozenset({"copy", "copy_code", "copy_chat"})


class Turns:
    """Acts on messages. Whatever changes one adds a sibling: nothing is overwritten."""

    def __init__(self, window: WindowContext, options: Options) -> None:
        self._window = window
        self._options = options
        self._session = window.session
        self._pane = window.pane

    def ask(self, action: str, message: StoredMessage | None) -> None:
        """Have done in its turn what a key asks with a message; None is the last reply."""
        self._window.notice.dismiss()
        act = partial(self._act, action, message)
        if action == "edit" and message is not None and message.role == "user":
            self._pane.begin_edit(message)  # now: what is typed next goes into it
        elif action in COPYING:  # changes nothing, and is as slow as the system's clipboard
            self._window.begin(act)
        else:
            self._window.in_order(act)

    async def _act(self, action: str, message: StoredMessage | None) -> None:
        if message is None:
            message = self._last_reply()
        if message is None:
            self._window.tell("There is no reply yet.", error=True)
            return
        match action:
            case "regenerate":
                await self._regenerate(message)
            case "continue":
                await self._continue(message)
            case "edit":
                await self._edit_reply(message)
            case "good" | "bad":
                await self._rate(message, 1 if action == "good" else -1)
            case "why":
                await ask_why(self._window, message)
            case "previous" | "next":
                await self._walk(message, -1 if action == "previous" else 1)
            case "fold":
                reply = message.role == "assistant"
                nothing = "This reply has no thoughts to open." if reply else NO_FILE
                self._window.tell(nothing, error=True)
            case _:
                await self._copy(action, message)

    def _last_reply(self) -> StoredMessage | None:
        turns = self._window.transcript.turns
        return next((turn for turn in reversed(turns) if turn.role == "assistant"), None)

    # Answering

    async def _regenerate(self, message: StoredMessage) -> None:
        """Another reply to the same prompt, beside those that there are."""
        under = message.id if message.role == "user" else message.parent_id
        await self._answer(message.chat_id, ReplyPlace(under=under))

    async def _continue(self, message: StoredMessage) -> None:
        if message.role != "assistant":
            self._window.tell("Only a reply can be continued: select one.", error=True)
        elif message.finish_reason not in CONTINUED:
            self._window.tell("This reply is not cut: r asks for another one.", error=True)
        elif not message.content:
            self._window.tell(
                "Nothing of this reply was written: r asks for another one.", error=True
            )
        else:
            await self._answer(message.chat_id, ReplyPlace(continues=message.id))

    async def _answer(self, chat_id: str, place: ReplyPlace) -> None:
        pane = self._pane
        async with self._window.taking_turns():
            if pane.busy:
                self._window.tell(pane.why_busy, error=True)
            else:
                pane.end_edit()
                await self._options.prepare()
                await self._window.leaving.check(continues=place.continues is not None)
                pane.answer(self._session.store_of(chat_id), chat_id, place)
                self._window.prompt.focus()

    # Changing

    async def _edit_reply(self, message: StoredMessage) -> None:
        from openchat_local.app.chats import ChatStore

        if self._is_live(message):
            self._window.tell(
                "This reply is still being written: press Esc to stop it.", error=True
            )
            return
        text = await self._window.ask(EditReply(message.content))
        if text is None or text == message.content:
            return
        if not text.strip():
            self._window.tell("An empty reply is not kept.", error=True)
            return
        async with self._window.taking_turns():
            edited = await self._session.run(
                ChatStore.add_message,
                message.chat_id,
                message.parent_id,
                "assistant",
                text,
                edited=True,
            )
            await self._show_branch(message.chat_id, edited.id)

    async def _rate(self, message: StoredMessage, rating: int) -> None:
        from openchat_local.app.chats import ChatStore

        if message.role != "assistant" or self._is_live(message):
            self._window.tell("Only a complete reply can be rated.", error=True)
            return
        async with self._window.taking_turns():
            # As it is now: the key may have been pressed twice.
            now = await self._session.run(ChatStore.message, message.id)
            wanted = None if now.rating == rating else rating
            rated = await self._session.run(ChatStore.rate, message.id, wanted)
            self._window.transcript.update_turn(rated)
            self._pane.show_keys()
            if now.rating_reason:  # no key may lose a sentence
                self._window.tell(
                    f"The reason is taken back with the rating: “{now.rating_reason}”.", stays=True
                )

    async def _walk(self, message: StoredMessage, direction: int) -> None:
        """Show the version of a message before or after this one, and what followed it."""
        from openchat_local.app.chats import ChatStore

        if self._pane.waiting:
            self._window.tell("The model is still loading for your last prompt.", error=True)
            return
        async with self._window.taking_turns():
            siblings = await self._session.run(ChatStore.siblings, message.id)
            number = next(n for n, each in enumerate(siblings) if each.id == message.id)
            wanted = number + direction
            if len(siblings) == 1:
                self._window.tell("There is only this version.", error=True)
            elif 0 <= wanted < len(siblings):
                await self._session.run(ChatStore.show_leaf, message.chat_id, siblings[wanted].id)
                await self._show_branch(message.chat_id, siblings[wanted].id)

    async def _show_branch(self, chat_id: str, selected: str) -> None:
        from openchat_local.app.chats import ChatStore

        if chat_id != self._session.active.id:
            return
        transcript = self._window.transcript
        self._pane.show(chat_id, await self._session.run(ChatStore.branch, chat_id))
        transcript.focus(scroll_visible=False)
        transcript.select(selected)
        transcript.reveal(selected)
        self._window.meter.recount_soon(0.0)

    def _is_live(self, message: StoredMessage) -> bool:
        reply = self._pane.reply
        return reply is not None and reply.message is not None and reply.message.id == message.id

    # Copying

    async def _copy(self, action: str, message: StoredMessage) -> None:
        if action == "copy":
            await self._copy_message(message)
        elif action == "copy_code":
            await self._copy_code(message)
        elif action == "copy_chat":
            await self._copy_chat(message.chat_id)

    async def _copy_message(self, message: StoredMessage) -> None:
        without = ", without its thoughts," if has_thoughts(message) else ""
        if without and not answer_of(message):
            self._window.tell(
                "This reply has no answer: o opens its thoughts, and the mouse copies of them.",
                error=True,
            )
            return
        await self.copy(answer_of(message), f"The message is copied{without}")

    async def _copy_code(self, message: StoredMessage) -> None:
        blocks = code_blocks(answer_of(message))
        if not blocks:
            self._window.tell("There is no code block in this message.", error=True)
            return
        block = blocks[0]
        if len(blocks) > 1:
            chosen = await self._window.ask(ChooseCode(blocks))
            if chosen is None:
                return
            block = chosen
        await self.copy(block.text, "The code is copied")

    async def _copy_chat(self, chat_id: str) -> None:
        from openchat_local.app.chats.formats import export_chat

        with self._window.telling():
            text = await self._session.run(
                partial(export_chat, thoughts=False), chat_id, "markdown"
            )
            await self.copy(text, "The chat is copied as Markdown")

    async def copy(self, text: str, what: str) -> None:
        """Copy in whatever way works here, and say which one it was."""
        with self._window.telling():
            to_terminal = self._pane.app.copy_to_clipboard
            how = await asyncio.to_thread(copy, text, to_terminal, self._session.home)
            self._window.tell(f"{what} {how}.")

    def forget_copy(self) -> None:
        """Before the window closes: no text stays beside the store."""
        remove_copy(self._session.home)
