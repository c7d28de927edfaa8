"""The list by day, titles, pins, tags, privacy, deletion with undo, and search."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input

from openchat_local.app.chats import Chat, ChatNotFound, ChatStore, StoredMessage
from openchat_local.app.tui.dates import day_and_time, heading, moment
from openchat_local.app.tui.questions.line import AskLine
from openchat_local.app.tui.screens.chat import ChatScreen
from openchat_local.app.tui.screens.search import Search
from openchat_local.app.tui.widgets.chat_list import ChatList
from support.window import OpenWindow, Window


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    """The store of another window on the same home."""
    store = ChatStore.open(home)
    yield store
    store.close()


def add_chat(store: ChatStore, *prompts: str) -> Chat:
    chat = store.new_chat()
    for prompt in prompts:
        store.add_message(chat.id, store.chat(chat.id).leaf_id, "user", prompt)
    return store.chat(chat.id)


async def pick(window: Window, chat: Chat, text: str) -> None:
    await window.until(lambda: window.listed)
    window.pane.post_message(ChatList.Picked(chat.id))
    await window.until(lambda: text in window.screen_text())


def at(day: str) -> float:
    return time.mktime(time.strptime(day, "%Y-%m-%d %H:%M"))


NOW = at("2026-11-25 14:00")  # a Wednesday


@pytest.mark.parametrize(
    ("day", "under", "short", "alone"),
    [
        ("2026-11-25 00:00", "Today", "00:00", "Today 00:00"),
        ("2026-11-24 23:59", "Yesterday", "23:59", "Yesterday 23:59"),
        ("2026-11-23 10:00", "This week", "Mon", "23 Nov"),
        ("2026-11-19 10:00", "This week", "Thu", "19 Nov"),
        ("2026-11-18 10:00", "November", "18 Nov", "18 Nov"),
        ("2026-01-02 10:00", "January", "2 Jan", "2 Jan"),
        ("2025-12-31 10:00", "December 2025", "31 Dec", "31 Dec 2025"),
        ("2026-11-26 10:00", "Today", "10:00", "Today 10:00"),  # a clock that was put back
    ],
)
def test_times_are_told_as_a_person_does(day: str, under: str, short: str, alone: str) -> None:
    assert heading(at(day), NOW) == under
    assert moment(at(day), NOW) == short
    assert day_and_time(at(day), NOW) == alone


def test_the_hour_of_yesterday_is_told_only_under_its_heading() -> None:
    assert moment(at("2026-11-24 23:59"), NOW, headed=False) == "Tue"
    assert moment(at("2026-11-25 09:00"), NOW, headed=False) == "09:00"


async def test_pinned_chats_come_first_and_the_rest_under_their_days(
    open_window: OpenWindow, store: ChatStore
) -> None:
    for title in ("one", "two"):
        add_chat(store, title)
    chat = add_chat(store, "to be pinned")
    add_chat(store, "newest")
    async with open_window() as window:
        await pick(window, chat, "to be pinned")
        await window.pilot.press("f5")
        await window.until(lambda: window.listed[0].startswith("to be pinned"))
        options = window.app.screen.query_one(ChatList).options
        assert [str(each.prompt) for each in options if each.id is None] == ["Pinned", "Today"]
        assert "pinned to the top" in window.pane.notice.text
        assert store.chat(chat.id).pinned
        await window.pilot.press("f5")
        await window.until(lambda: window.listed[0].startswith("newest"))


async def test_the_chat_under_the_cursor_of_the_list_is_meant_while_one_is_there(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chats = [add_chat(store, "older"), add_chat(store, "newer")]
    async with open_window() as window:
        await pick(window, chats[1], "newer")
        window.app.screen.query_one(ChatList).focus()
        await window.pilot.press("down", "f5")
        await window.until(lambda: store.chat(chats[0].id).pinned)
        assert not store.chat(chats[1].id).pinned


async def test_the_cursor_of_the_list_is_at_a_chat_as_soon_as_it_lies_open(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chats = [add_chat(store, text) for text in ("oldest", "older", "newer")]
    async with open_window() as window:
        await window.until(lambda: window.listed)
        listing = window.app.screen.query_one(ChatList)
        seen = []
        show = window.pane.show

        def shown(chat_id: str | None, messages: Sequence[StoredMessage]) -> None:
            seen.append((chat_id, listing.under_cursor))
            show(chat_id, messages)

        window.pane.show = shown  # type: ignore[method-assign]
        for chat in chats:
            window.pane.post_message(ChatList.Picked(chat.id))
            await window.until(lambda chat=chat: chat.id in dict(seen))
        await window.pilot.press("ctrl+n")
        await window.until(lambda: None in dict(seen))
    assert [chat_id for chat_id, _ in seen] == [*(chat.id for chat in chats), None]
    assert all(chat_id == under for chat_id, under in seen)


async def test_a_command_means_the_chat_that_the_keys_before_it_went_to(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chats = [add_chat(store, text) for text in ("oldest", "older", "newer")]
    async with open_window() as window:
        await pick(window, chats[2], "newer")
        window.app.screen.query_one(ChatList).focus()
        await window.pilot.pause()
        for key in ("down", "f5", "down"):  # a burst: nothing waits for anything
            window.app.post_message(events.Key(key, None))
        await window.until(lambda: any(store.chat(chat.id).pinned for chat in chats))
        assert [store.chat(chat.id).pinned for chat in chats] == [False, True, False]


@pytest.mark.parametrize("goes_on", ["down", "up"])
async def test_a_list_that_is_read_anew_never_puts_another_chat_under_the_cursor(
    open_window: OpenWindow, store: ChatStore, goes_on: str
) -> None:
    oldest, older, newer, newest = (
        add_chat(store, text) for text in ("oldest", "older", "newer", "newest")
    )
    async with open_window() as window:
        await pick(window, newest, "newest")
        listing = window.app.screen.query_one(ChatList)
        listing.focus()
        await window.pilot.press("down", "down")
        assert listing.under_cursor == older.id
        store.add_message(oldest.id, oldest.leaf_id, "user", "now above")
        store.delete_chat(newest.id)
        await window.until(lambda: window.listed[0].startswith("oldest"))
        assert listing.under_cursor == older.id
        store.delete_chat(older.id)
        await window.until(lambda: len(window.listed) == 2)
        assert listing.highlighted is None
        await window.pilot.press("ctrl+d", "f5")
        await window.until(lambda: "There is no chat" in window.pane.notice.text)
        assert {chat.id for chat in store.chats()} == {oldest.id, newer.id}
        await window.pilot.press(goes_on)
        assert listing.under_cursor == newer.id


async def test_enter_opens_what_the_words_find_that_were_written_before_it(
    open_window: OpenWindow, store: ChatStore
) -> None:
    add_chat(store, "about lighthouses")
    add_chat(store, "about ships")
    async with open_window() as window:
        await window.until(lambda: window.listed)
        await window.pilot.press("ctrl+k")
        screen = window.app.screen
        assert isinstance(screen, Search)
        await window.until(lambda: len(screen._hits) == 2)
        chats = window.app.screen_stack[0]
        assert isinstance(chats, ChatScreen)
        slow = threading.Event()  # a store that does not answer before Enter is pressed
        busy = asyncio.create_task(chats._session.run(lambda _: slow.wait(60)))
        await window.pilot.press(*"light", "enter")
        assert window.app.screen is screen
        slow.set()
        await busy
        await window.until(lambda: "about lighthouses" in window.screen_text())


async def test_a_title_is_changed_and_an_empty_one_comes_from_the_next_prompt(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = add_chat(store, "first words")
    async with open_window() as window:
        await pick(window, chat, "first words")
        await window.pilot.press("f2")
        await window.until(lambda: isinstance(window.app.screen, AskLine))
        assert window.app.screen.query_one(Input).value == "first words"
        await window.pilot.press("escape", "f2")
        await window.until(lambda: isinstance(window.app.screen, AskLine))
        await window.pilot.press("ctrl+u", *"渋谷 [b]x", "enter")
        await window.until(lambda: window.listed[0].startswith("渋谷 [b]x"))
        assert store.chat(chat.id).title == "渋谷 [b]x"
        await window.pilot.press("f2", "ctrl+u", "enter")
        await window.until(lambda: window.listed[0].startswith("New chat"))
        await window.send("the new title")
        await window.until(lambda: window.listed[0].startswith("the new title"))


async def test_tags_are_set_and_found_again(open_window: OpenWindow, store: ChatStore) -> None:
    chat = add_chat(store, "about lighthouses")
    add_chat(store, "about ships")
    async with open_window() as window:
        await pick(window, chat, "about lighthouses")
        await window.pilot.press("f6")
        await window.until(lambda: isinstance(window.app.screen, AskLine))
        await window.pilot.press(*"#sea, work", "enter")
        await window.until(lambda: store.chat(chat.id).tags == ("sea", "work"))
        await window.pilot.press("ctrl+k", *"#se")
        screen = window.app.screen
        assert isinstance(screen, Search)
        await window.until(lambda: [hit.chat_id for hit in screen._hits] == [chat.id])
        await window.pilot.press(*" ships")
        await window.until(lambda: not screen._hits)
        await window.pilot.press("escape")


async def test_a_private_chat_is_marked_and_leaves_no_state(
    open_window: OpenWindow, store: ChatStore, home: Path
) -> None:
    chat = add_chat(store, "just between us")
    states = home / "states"
    states.mkdir()
    (states / f"{chat.id}.state").write_bytes(b"what the engine knew")
    async with open_window() as window:
        await pick(window, chat, "just between us")
        await window.pilot.press("f7")
        await window.until(lambda: window.listed[0].startswith("⊘ just between us"))
        await window.until(lambda: "This chat is private" in window.pane.notice.text)
        assert store.chat(chat.id).private
        assert not list(states.glob(f"{chat.id}*"))
        await window.pilot.press("f7")
        await window.until(lambda: not store.chat(chat.id).private)


async def test_a_deleted_chat_comes_back_with_its_draft(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = add_chat(store, "to be deleted")
    async with open_window() as window:
        await pick(window, chat, "to be deleted")
        await window.write("half a thought")
        await window.pilot.press("ctrl+d")
        await window.until(lambda: "“to be deleted” is deleted" in window.pane.notice.text)
        assert window.listed == []
        assert "to be deleted" not in window.screen_text()
        assert store.chats() == []
        await window.pilot.press("ctrl+z")
        await window.until(lambda: "to be deleted" in window.screen_text())
        await window.until(lambda: window.pane.notice.text == "“to be deleted” is back.")
        assert window.pane.prompt.text == "half a thought"
        assert store.chat(chat.id).draft == "half a thought"


async def test_deletions_are_undone_one_after_the_other_and_not_while_there_is_a_prompt(
    open_window: OpenWindow, store: ChatStore
) -> None:
    for title in ("first", "second"):
        add_chat(store, title)
    async with open_window() as window:
        await window.until(lambda: len(window.listed) == 2)
        window.app.screen.query_one(ChatList).focus()
        await window.pilot.press("down", "ctrl+d")
        await window.until(lambda: len(window.listed) == 1)
        window.app.screen.query_one(ChatList).focus()
        await window.pilot.press("home", "ctrl+d")
        await window.until(lambda: not window.listed)
        window.pane.prompt.focus()
        await window.pilot.press("x", "ctrl+z")
        assert window.pane.prompt.text == ""  # the prompt's own undo
        assert store.chats() == []
        await window.pilot.press("ctrl+z")
        await window.until(lambda: len(window.listed) == 1)
        await window.pilot.press("ctrl+z")
        await window.until(lambda: len(window.listed) == 2)


async def test_deletion_is_for_good_when_the_window_closes(
    open_window: OpenWindow, store: ChatStore, home: Path
) -> None:
    chat = add_chat(store, "zwiebelfisch")
    async with open_window() as window:
        await pick(window, chat, "zwiebelfisch")
        await window.pilot.press("ctrl+d")
        await window.until(lambda: not window.listed)
    with pytest.raises(ChatNotFound):
        store.unhide_chat(chat.id)
    store.close()
    assert b"zwiebelfisch" not in (home / "chats.db").read_bytes()


async def test_deletion_is_for_good_when_the_time_is_over(
    open_window: OpenWindow, store: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openchat_local.app.tui.chat.chats.UNDO_SECONDS", 0.2)
    chat = add_chat(store, "soon gone")
    async with open_window() as window:
        await pick(window, chat, "soon gone")
        await window.pilot.press("ctrl+d")
        await window.until(lambda: not window.listed)

        def hidden() -> object:
            with store._database.reading() as connection:
                return connection.execute("SELECT count(*) FROM chats").fetchone()[0]

        await window.until(lambda: not hidden())
        await window.pilot.press("ctrl+z")
        assert window.listed == []


async def test_deleting_what_is_deleted_already_is_done(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = add_chat(store, "soon gone")
    async with open_window() as window:
        await pick(window, chat, "soon gone")
        store.delete_chat(chat.id)
        await window.pilot.press("ctrl+d")
        await window.until(lambda: "soon gone" not in window.screen_text())
        assert "There is no chat" not in window.pane.notice.text


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_what_is_searched_for_is_found_in_any_script_and_opened(
    open_window: OpenWindow, store: ChatStore, size: tuple[int, int]
) -> None:
    chat = add_chat(store, "今夜は東京の灯台を見る [red]x", "and a second prompt")
    add_chat(store, "something else", "with words")
    async with open_window(size=size) as window:
        await window.until(lambda: window.pane.notice.text)
        await window.pilot.press("ctrl+k")
        screen = window.app.screen
        assert isinstance(screen, Search)
        await window.until(lambda: len(screen._hits) == 2)  # those used last
        await window.pilot.press(*"灯台")
        await window.until(lambda: [hit.chat_id for hit in screen._hits] == [chat.id] * 2)
        hit = screen._hits[1]
        assert [hit.snippet[start:end] for start, end in hit.matches] == ["灯台"]
        await window.pilot.press("down", "enter")
        await window.until(lambda: "東京の灯台を見る [red]x" in window.screen_text())
        assert window.pane.prompt.has_focus


async def test_a_hit_on_another_branch_is_shown(open_window: OpenWindow, store: ChatStore) -> None:
    chat = store.new_chat()
    store.add_message(chat.id, None, "user", "the old lighthouse")
    store.add_message(chat.id, None, "user", "the new one")
    async with open_window() as window:
        await pick(window, chat, "the new one")
        await window.pilot.press("ctrl+k", *"old light")
        screen = window.app.screen
        assert isinstance(screen, Search)
        await window.until(lambda: any(hit.message_id for hit in screen._hits))
        await window.pilot.press("end", "down", "enter")
        await window.until(lambda: "the old lighthouse" in window.screen_text())


async def test_another_window_s_undo_brings_the_chat_back_into_this_list(
    open_window: OpenWindow, home: Path, store: ChatStore
) -> None:
    chat = add_chat(store, "here and there")
    async with open_window() as window:
        await window.until(lambda: window.listed)
        with closing(ChatStore.open(home)) as other:
            other.hide_chat(chat.id)
            await window.until(lambda: not window.listed)
            other.unhide_chat(chat.id)
            await window.until(lambda: window.listed)


async def test_what_could_not_be_written_is_not_said_to_be_done(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = store.new_chat(title="kept")
    store.add_message(chat.id, None, "user", "Where to?")
    async with open_window() as window:
        await window.until(lambda: window.listed)
        window.app.screen.query_one(ChatList).focus()
        await window.pilot.press("home", "enter")
        await window.until(lambda: "Where to?" in window.screen_text())
        screen = window.app.screen
        assert isinstance(screen, ChatScreen)
        with screen._session.store._database.exclusive() as connection:
            connection.execute("PRAGMA query_only = ON")
        for command in ("/pin", "/private", "/title x", "/tag y", "/temperature 0.1"):
            await window.send(command)
            await window.until(lambda: window.pane.notice.text)
            await window.app.workers.wait_for_complete()
            assert "cannot be written" in window.pane.notice.text, command
        with screen._session.store._database.exclusive() as connection:
            connection.execute("PRAGMA query_only = OFF")
