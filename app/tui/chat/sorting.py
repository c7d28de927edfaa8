"""Finding chats again: titles, pins, tags, privacy, search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from openchat_local.app.tui.screens.line import AskLine
from openchat_local.app.tui.session import FOUND

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat, ChatFields, SearchHit
    from openchat_local.app.tui.chat.context import WindowContext

NOTHING_YET = "There is no chat yet: it begins with your first word."


class Sorting:
    """Each takes the id of a chat; None is the new one, which has no row yet."""

    def __init__(self, stage: WindowContext) -> None:
        self._stage = stage
        self._desk = stage.desk

    async def find(self, query: str) -> Sequence[SearchHit]:
        """What a query finds; the chats used last for an empty one. Raises OpenChatError."""
        if query.strip():
            return await self._desk.search(query)
        from openchat_local.app.chats.search import chat_hit

        return [chat_hit(chat) for chat in (await self._desk.chats())[:FOUND]]

    async def rename(self, chat_id: str | None, title: str | None = None) -> None:
        """Give a chat a title, which is asked for if it is not given; an empty one is taken
        from the next prompt."""
        chat = await self._chat(chat_id)
        if chat is None:
            return
        if title is None:
            hint = "Enter keeps it · Esc gives up · without one, the next prompt gives the title"
            title = await self._stage.pane.app.push_screen_wait(
                AskLine("Title of the chat", chat.title, hint)
            )
        if title is not None and await self._change(chat.id, title=title):
            self._tell_change("title", chat.title, title)

    async def tag(self, chat_id: str | None, tags: str | None = None) -> None:
        """Replace the tags of a chat by those in `tags`, which are asked for if not given."""
        chat = await self._chat(chat_id)
        if chat is None:
            return
        if tags is None:
            hint = "With spaces between; found again by #tag in the search"
            tags = await self._stage.pane.app.push_screen_wait(
                AskLine("Tags of the chat", " ".join(chat.tags), hint)
            )
        if tags is not None:
            wanted = [tag.lstrip("#") for tag in tags.replace(",", " ").split()]
            if await self._change(chat.id, tags=[tag for tag in wanted if tag]):
                self._tell_change("tags", " ".join(chat.tags), " ".join(filter(None, wanted)))

    async def pin(self, chat_id: str | None) -> None:
        """Pin a chat to the top of the list, or unpin it."""
        chat = await self._chat(chat_id)
        if chat is not None and await self._change(chat.id, pinned=not chat.pinned):
            done = "no longer pinned" if chat.pinned else "pinned to the top of the list"
            self._stage.pane.notice.tell(f"This chat is {done}.")

    async def make_private(self, chat_id: str | None) -> None:
        """Mark a chat private, or take the mark away."""
        chat = await self._chat(chat_id)
        if chat is None:
            return
        if self._desk.is_temporary(chat.id):
            self._stage.pane.notice.tell("This chat is temporary: nothing of it is on disk.")
            return
        if not await self._change(chat.id, private=not chat.private):
            return
        if chat.private:
            self._stage.pane.notice.tell("This chat is not private any more.")
            return
        with self._stage.telling():
            self._stage.forget(chat.id)
            await self._desk.forget_states(chat.id)
            self._stage.pane.notice.tell(
                "This chat is private: nothing but its words is kept on disk, and its prompts "
                "are offered in no other chat. The search in this window still finds it."
            )

    def _tell_change(self, what: str, before: str, now: str) -> None:
        """What was there before is named: it is gone for somebody who wrote a prompt."""
        if before and before != now:
            self._stage.pane.notice.tell(
                f"The {what} of this chat: “{now}”. Before: “{before}”.", stays=True
            )

    async def _chat(self, chat_id: str | None) -> Chat | None:
        chat = None
        with self._stage.telling():
            if chat_id is None:
                self._stage.pane.notice.tell(NOTHING_YET, error=True)
            else:
                chat = await self._desk.chat(chat_id)
        return chat

    async def _change(self, chat_id: str, **fields: Unpack[ChatFields]) -> bool:
        """Whether it was changed; if not, why is told already."""
        changed = False
        async with self._stage.taking_turns():
            await self._desk.change(chat_id, **fields)
            changed = True
            await self._stage.refresh_list()
        return changed
