"""Labels by which a chat is found again: title, tags, pin, privacy.

Each function takes the id of a chat; None is the new one, which has no row yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from openchat_local.app.tui.questions.line import AskLine

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat
    from openchat_local.app.tui.chat.context import WindowContext

NOTHING_YET = "There is no chat yet: it begins with your first word."


async def rename(window: WindowContext, chat_id: str | None, title: str | None = None) -> None:
    """Give a chat a title, which is asked for if it is not given; an empty one is taken from
    the next prompt."""
    from openchat_local.app.chats import ChatStore

    chat = await _chat(window, chat_id)
    if chat is None:
        return
    if title is None:
        hint = "Enter keeps it · Esc gives up · without one, the next prompt gives the title"
        title = await window.ask(AskLine("Title of the chat", chat.title, hint))
    if title is not None:
        async with window.taking_turns():
            await window.session.run(ChatStore.update_chat, chat.id, title=title)
            await window.refresh_list()
            _tell_change(window, "title", chat.title, title)


async def tag(window: WindowContext, chat_id: str | None, tags: str | None = None) -> None:
    """Replace the tags of a chat by those in `tags`, which are asked for if not given."""
    from openchat_local.app.chats import ChatStore

    chat = await _chat(window, chat_id)
    if chat is None:
        return
    if tags is None:
        hint = "With spaces between; found again by #tag in the search"
        tags = await window.ask(AskLine("Tags of the chat", " ".join(chat.tags), hint))
    if tags is not None:
        wanted = [tag.lstrip("#") for tag in tags.replace(",", " ").split()]
        wanted = [tag for tag in wanted if tag]
        async with window.taking_turns():
            await window.session.run(ChatStore.update_chat, chat.id, tags=wanted)
            await window.refresh_list()
            _tell_change(window, "tags", " ".join(chat.tags), " ".join(wanted))


async def pin(window: WindowContext, chat_id: str | None) -> None:
    """Pin a chat to the top of the list, or unpin it."""
    from openchat_local.app.chats import ChatStore

    chat = await _chat(window, chat_id)
    if chat is None:
        return
    async with window.taking_turns():
        await window.session.run(ChatStore.update_chat, chat.id, pinned=not chat.pinned)
        await window.refresh_list()
        done = "no longer pinned" if chat.pinned else "pinned to the top of the list"
        window.tell(f"This chat is {done}.")


async def make_private(window: WindowContext, chat_id: str | None) -> None:
    """Mark a chat private, or take the mark away."""
    from openchat_local.app.chats import ChatStore

    if chat_id is None and not window.session.active.temporary:
        window.tell(f"{NOTHING_YET} /temporary begins one that is never on disk.", error=True)
        return
    chat, session = await _chat(window, chat_id), window.session
    if chat is None:
        return
    if session.is_temporary(chat.id):
        window.tell("This chat is temporary: nothing of it is on disk.")
        return
    async with window.taking_turns():
        await session.run(ChatStore.update_chat, chat.id, private=not chat.private)
        await window.refresh_list()
        if chat.private:
            window.tell("This chat is not private any more.")
            return
        window.forget(chat.id)
        await session.forget_states(chat.id)
        window.tell(
            "This chat is private: nothing but its words is kept on disk, and its prompts "
            "are offered in no other chat. The search in this window still finds it."
        )


def _tell_change(window: WindowContext, what: str, before: str, now: str) -> None:
    """What was there before is named: it is gone for somebody who wrote a prompt."""
    if before and before != now:
        window.tell(f"The {what} of this chat: “{now}”. Before: “{before}”.", stays=True)


async def _chat(window: WindowContext, chat_id: str | None) -> Chat | None:
    """The chat as it is on disk; None where there is none, which is told."""
    from openchat_local.app.chats import ChatStore

    chat = None
    with window.telling():
        if chat_id is None:
            window.tell(NOTHING_YET, error=True)
        else:
            chat = await window.session.run(ChatStore.chat, chat_id)
    return chat
