"""The session: one thread for the store, and the store that has what a call names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatNotFound, ChatStore
from openchat_local.app.settings.model import load_settings
from openchat_local.app.tui.session import ActiveChat, Session
from openchat_local.models.errors import OpenChatError


@pytest.fixture
async def session(home: Path) -> AsyncIterator[Session]:
    """Opened on an empty home."""
    session = Session(home, load_settings())
    await session.open()
    yield session
    await session.close()


async def test_a_call_goes_to_the_store_that_has_the_chat_or_the_message(
    session: Session, home: Path
) -> None:
    kept = await session.send(ActiveChat(), "on disk")
    hidden = await session.send(ActiveChat(temporary=True), "in memory")
    for chat, words in ((kept, "on disk"), (hidden, "in memory")):
        (message,) = await session.run(ChatStore.branch, chat.id)
        assert message.content == words
        reply = await session.run(
            ChatStore.add_message, chat.id, message.id, "assistant", "good", edited=True
        )
        rated = await session.run(ChatStore.rate, reply.id, 1)
        assert rated.rating == 1
        assert [each.id for each in await session.run(ChatStore.siblings, reply.id)] == [reply.id]
    assert session.is_temporary(hidden.id)
    assert not session.is_temporary(kept.id)
    assert [hit.chat_id for hit in await session.run(ChatStore.search, "memory")] == []
    files = [file.read_bytes() for file in home.rglob("*") if file.is_file()]
    assert any(b"on disk" in file for file in files)
    assert not any(b"in memory" in file for file in files)
    with pytest.raises(ChatNotFound):
        await session.run(ChatStore.chat, "nothing")


async def test_calls_run_one_after_the_other_as_they_were_made(session: Session) -> None:
    chat = await session.send(ActiveChat(), "first words")
    drafts = [f"draft {number}" for number in range(20)]
    calls = [session.run(ChatStore.set_draft, chat.id, draft) for draft in drafts]
    done = await asyncio.gather(*calls)
    assert [chat.draft for chat in done] == drafts
    assert (await session.run(ChatStore.chat, chat.id)).draft == drafts[-1]


async def test_the_options_of_a_chat_without_a_row_are_those_of_its_row_later(
    session: Session,
) -> None:
    await session.change(condition="Code", sampling={"top_k": 3})
    assert session.options().condition == "Code"
    chat = await session.send(session.active, "a first word")
    assert (chat.condition, chat.sampling) == ("Code", {"top_k": 3})
    await session.change(condition="")
    assert session.options().condition == ""
    assert (await session.run(ChatStore.chat, chat.id)).condition == ""


async def test_the_active_chat_is_as_the_list_has_it_but_for_the_draft(session: Session) -> None:
    await session.save_draft(session.active, "unsent here")
    assert session.active.id is not None
    await session.run(ChatStore.update_chat, session.active.id, pinned=True, draft="from elsewhere")
    await session.chats()
    assert session.active.chat is not None
    assert session.active.chat.pinned
    assert session.active.chat.draft == "unsent here"


async def test_before_the_store_is_open_and_after_it_is_closed_every_call_says_so(
    home: Path,
) -> None:
    session = Session(home, load_settings())
    with pytest.raises(OpenChatError, match="still being opened"):
        await session.run(ChatStore.chat, "any")
    await session.open()
    await session.close()
    with pytest.raises(OpenChatError, match="being closed"):
        await session.run(ChatStore.chat, "any")
