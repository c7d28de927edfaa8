"""Two windows on one home: what is written in one appears in the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.app.tui.widgets.chat_list import ChatList
from support.window import OpenWindow, Window


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    """The store of another window on the same home."""
    store = ChatStore.open(home)
    yield store
    store.close()


async def pick(window: Window, chat_id: str, text: str) -> None:
    await window.until(lambda: window.listed)
    window.pane.post_message(ChatList.Picked(chat_id))
    await window.until(lambda: text in window.screen_text())


async def test_a_reply_from_another_window_grows_in_the_open_chat(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = store.new_chat()
    store.add_message(chat.id, None, "user", "asked here")
    async with open_window() as window:
        await pick(window, chat.id, "asked here")
        await window.write("my own draft")
        await window.until(lambda: store.chat(chat.id).draft)
        second = store.add_message(
            chat.id, store.chat(chat.id).leaf_id, "user", "and asked elsewhere"
        )
        await window.until(lambda: "and asked elsewhere" in window.screen_text())
        reply = store.begin_reply(chat.id, second.id, model="m")
        store.flush_reply(reply.id, "half a")
        await window.until(lambda: "half a" in window.screen_text())
        store.finish_reply(reply.id, "half a reply", "stop")
        await window.until(lambda: "half a reply" in window.screen_text())
        assert window.pane.prompt.text == "my own draft"


async def test_a_reader_who_has_scrolled_up_stays_where_they_are(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = store.new_chat()
    for number in range(60):
        store.add_message(chat.id, store.chat(chat.id).leaf_id, "user", f"prompt {number}.")
    async with open_window(size=(100, 20)) as window:
        await pick(window, chat.id, "prompt 59.")
        window.pane.notice.dismiss()
        await window.pilot.press("pageup")
        before = window.screen_text()
        store.add_message(chat.id, store.chat(chat.id).leaf_id, "user", "one more")
        await window.until(lambda: "something new at the end" in window.pane.notice.text)
        assert before.split("\n")[0] in window.screen_text()
        await window.pilot.press(*["pagedown"] * 4)
        await window.until(lambda: "one more" in window.screen_text())


async def test_two_windows_answer_and_sort_the_same_chat(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = store.new_chat(title="shared")
    store.add_message(chat.id, None, "user", "first")
    async with open_window() as one, open_window() as other:
        for window in (one, other):
            await pick(window, chat.id, "first")
        await one.send("from the one")
        await other.until(lambda: "from the one" in other.screen_text())
        await other.send("from the other")
        await one.until(lambda: "from the other" in one.screen_text())
        await other.send("/title renamed")
        await one.until(lambda: one.listed and one.listed[0].startswith("renamed"))
    contents = [message.content for message in store.branch(chat.id)]
    assert contents == ["first", "from the one", "from the other"]
