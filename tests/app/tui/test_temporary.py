"""A temporary chat: all that a chat is, and nothing of it on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatNotFound, ChatStore
from openchat_local.app.tui.widgets.chat_list import ChatList
from openchat_local.models.engine.local import LocalEngine
from support.window import OpenWindow

SECRET = "xyzzyplugh"


def traces(home: Path) -> list[str]:
    """Files below the home that hold the secret word, in whatever encoding or case."""
    spelt = [SECRET.encode(), SECRET.upper().encode(), SECRET.encode("utf-16-le")]
    files = [path for path in home.rglob("*") if path.is_file()]
    return [path.name for path in files if any(word in path.read_bytes() for word in spelt)]


def of_another_chat(path: Path, kept: str) -> bool:
    """Whether the file is named after a chat, but for the one that is kept."""
    return path.parent.name == "states" and not path.name.startswith(kept)


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    """The store of another window on the same home."""
    store = ChatStore.open(home)
    yield store
    store.close()


async def test_a_temporary_chat_is_a_chat_and_leaves_nothing(
    open_window: OpenWindow, store: ChatStore, own_engine: LocalEngine, home: Path
) -> None:
    kept = store.new_chat(title="kept")
    store.add_message(kept.id, None, "user", "Where to?")
    async with open_window(own_engine, max_tokens=8) as window:
        pane = window.pane
        await window.until(lambda: window.listed)
        await window.send("/temporary")
        await window.until(lambda: "temporary" in str(pane.prompt.border_title))
        assert "ever written to disk" in window.screen_text()
        await window.send(f"/system You know {SECRET}.")
        await window.send(f"Say {SECRET}.")
        await window.answered()
        await window.until(lambda: len(window.listed) == 2)
        assert f"◌ Say {SECRET}" in window.listed[0]
        # What is done with any chat works here.
        await window.send(f"/title {SECRET}!")
        await window.send(f"/tag {SECRET}")
        await window.until(lambda: f"{SECRET}!" in window.listed[0])
        await window.pilot.press("ctrl+r")
        await window.answered()
        await window.until(lambda: "2/2" in window.screen_text())
        await window.pilot.press("alt+up", "+")
        await window.until(lambda: pane.transcript.turns[-1].rating == 1)
        await window.pilot.press("left")
        await window.until(lambda: pane.transcript.turns[-1].rating is None)
        await window.pilot.press("escape")
        await window.send("/private")
        await window.until(lambda: "nothing of it is on disk" in pane.notice.text)
        await window.write(f"unsent {SECRET}")
        await window.pilot.press("ctrl+g")
        await window.until(lambda: "An editor works on a file" in pane.notice.text)
        assert store.chats() == [store.chat(kept.id)]
        # Another chat, and back: the draft too is there.
        chats = window.app.screen.query_one(ChatList)
        chats.focus()
        await window.pilot.press("end", "enter")
        await window.until(lambda: "Where to?" in window.screen_text())
        assert pane.prompt.border_title == ""
        await window.pilot.press("up")
        await window.until(lambda: pane.prompt.text)
        assert SECRET not in pane.prompt.text
        pane.prompt.put("")
        chats.focus()
        await window.pilot.press("home", "enter")
        await window.until(lambda: pane.prompt.text == f"unsent {SECRET}")
        assert "temporary" in str(pane.prompt.border_title)
        assert [chat.id for chat in store.chats()] == [kept.id]
        assert traces(home) == []
    own_engine.close()
    assert traces(home) == []
    # A state of the model holds token ids, in which no word is found: there is no file of one.
    assert [path for path in home.rglob("*") if of_another_chat(path, kept.id)] == []
    assert [chat.id for chat in store.chats()] == [kept.id]


async def test_a_temporary_chat_can_be_deleted_and_brought_back(open_window: OpenWindow) -> None:
    async with open_window() as window:
        await window.send("/temporary")
        await window.until(lambda: "temporary" in str(window.pane.prompt.border_title))
        await window.send("Hello")
        await window.until(lambda: window.listed)
        await window.pilot.press("ctrl+d")
        await window.until(lambda: not window.listed)
        assert window.pane.prompt.border_title == ""
        await window.pilot.press("ctrl+z")
        await window.until(lambda: window.listed)
        await window.until(lambda: "Hello" in window.screen_text())
        assert "temporary" in str(window.pane.prompt.border_title)


def test_a_store_in_memory_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = ChatStore.in_memory()
    chat = store.new_chat(title="A")
    prompt = store.add_message(chat.id, None, "user", "sea " * 100_000)
    reply = store.begin_reply(chat.id, prompt.id, model="m")
    store.finish_reply(reply.id, "blue", "stop")
    assert [hit.chat_id for hit in store.search("blue")] == [chat.id]
    assert store.recover() == 0
    store.delete_chat(chat.id)
    with pytest.raises(ChatNotFound):
        store.chat(chat.id)
    store.close()
    assert list(tmp_path.iterdir()) == []
