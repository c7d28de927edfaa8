"""Chats, drafts and faults in the window. No engine is needed for any of this."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input

from openchat_local.app.chats import Chat, ChatStore, StoredMessage
from openchat_local.app.tui.screens.help import Help
from openchat_local.app.tui.screens.search import Search
from openchat_local.app.tui.widgets.chat_list import ChatList
from support.turns import reply_to
from support.window import NO_ENGINE, OpenWindow, Window


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


async def test_the_list_shows_titles_newest_first(
    open_window: OpenWindow, store: ChatStore
) -> None:
    add_chat(store, "older chat")
    add_chat(store, "newer chat")
    async with open_window() as window:
        await window.until(lambda: len(window.listed) == 2)
        assert window.listed[0].startswith("newer chat")
        assert window.listed[1].startswith("older chat")


async def test_a_chat_is_opened_from_the_list(open_window: OpenWindow, store: ChatStore) -> None:
    add_chat(store, "what I asked")
    async with open_window() as window:
        await window.until(lambda: window.listed)
        window.app.screen.query_one(ChatList).focus()
        await window.pilot.press("down", "enter")
        await window.until(lambda: "what I asked" in window.screen_text())
        assert window.pane.prompt.has_focus


async def test_a_chat_from_another_window_appears(
    open_window: OpenWindow, store: ChatStore
) -> None:
    async with open_window() as window:
        await window.pilot.pause()
        add_chat(store, "from elsewhere")
        await window.until(lambda: window.listed and "from elsewhere" in window.listed[0])


async def test_a_prompt_without_an_engine_is_kept_and_the_reason_shown(
    open_window: OpenWindow, stored: Callable[[], list[StoredMessage]]
) -> None:
    async with open_window() as window:
        await window.until(lambda: window.pane.notice.text == str(NO_ENGINE))
        await window.send("keep this")
        await window.until(lambda: "keep this" in window.screen_text())
        await window.until(lambda: window.pane.notice.text == str(NO_ENGINE))
        assert [message.content for message in stored()] == ["keep this"]
        assert not window.pane.busy


async def test_an_unsent_prompt_is_there_again(open_window: OpenWindow) -> None:
    async with open_window() as window:
        await window.write("half a tho")
        await window.until(lambda: window.listed)
    async with open_window() as window:
        await window.until(lambda: window.listed)
        window.app.screen.query_one(ChatList).focus()
        await window.pilot.press("down", "enter")
        await window.until(lambda: window.pane.prompt.text == "half a tho")


async def test_drafts_stay_with_their_chats(open_window: OpenWindow, store: ChatStore) -> None:
    chats = [add_chat(store, "first"), add_chat(store, "second")]
    async with open_window() as window:
        await window.until(lambda: len(window.listed) == 2)
        pane = window.pane
        for chat in chats:
            pane.post_message(ChatList.Picked(chat.id))
            await window.until(lambda chat=chat: chat.title in window.screen_text())
            await window.write(f"draft of {chat.title}")
        # Faster than any timer: what counts is the order, not the pause.
        for chat in chats * 3:
            pane.post_message(ChatList.Picked(chat.id))
        await window.until(lambda: pane.prompt.text == "draft of second")
    assert {store.chat(chat.id).draft for chat in chats} == {"draft of first", "draft of second"}
    assert [store.chat(chat.id).draft for chat in chats] == ["draft of first", "draft of second"]


async def test_a_new_chat_that_was_left_empty_leaves_nothing(
    open_window: OpenWindow, store: ChatStore
) -> None:
    async with open_window() as window:
        await window.write("never mind")
        await window.until(lambda: window.listed)
        window.pane.prompt.put("")
        await window.pilot.press("ctrl+n")
        await window.until(lambda: not window.listed)
    assert store.chats() == []


async def test_several_lines_are_sent_as_they_were_typed(
    open_window: OpenWindow, stored: Callable[[], list[StoredMessage]]
) -> None:
    async with open_window() as window:
        await window.until(lambda: window.pane.notice.text)
        await window.write("one")
        await window.pilot.press("ctrl+j", "ctrl+j")
        await window.send("three")
        await window.until(lambda: "three" in window.screen_text())
    assert stored()[0].content == "one\n\nthree"


async def test_a_burst_of_keys_is_sent_whole_and_what_follows_stays(
    open_window: OpenWindow, stored: Callable[[], list[StoredMessage]]
) -> None:
    async with open_window() as window:
        for key in [*"a fast typist", "enter", *"next"]:
            name = "space" if key == " " else key
            window.app.post_message(events.Key(name, key if len(key) == 1 else "\r"))
        await window.until(lambda: window.pane.prompt.text == "next")
        await window.until(lambda: [message.content for message in stored()] == ["a fast typist"])


async def test_only_the_end_of_a_long_chat_is_laid_out(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = add_chat(store, *(f"message {number}" for number in range(100)))
    async with open_window() as window:
        await window.until(lambda: window.listed)
        window.pane.post_message(ChatList.Picked(chat.id))
        await window.until(lambda: "message 99" in window.screen_text())
        rows = window.pane.transcript.laid_out.rows
        assert rows < 100
        await window.pilot.press("pageup", "pageup", "pageup")
        await window.until(lambda: window.pane.transcript.laid_out.rows > rows)
        window.pane.transcript.scroll_home(animate=False)
        await window.until(lambda: window.pane.transcript.laid_out.rows == 200)


async def test_a_tall_window_is_filled_with_older_messages(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = add_chat(store, *(f"message {number}" for number in range(50)))
    async with open_window(size=(120, 90)) as window:
        await window.until(lambda: window.listed)
        window.pane.post_message(ChatList.Picked(chat.id))
        await window.until(lambda: "message 49" in window.screen_text())
        assert "message 10" in window.screen_text()


async def test_a_control_sequence_in_a_title_is_shown_and_not_obeyed(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = add_chat(store, "\x1b[2Jgone\x07 [bold]not markup[/]")
    reply = store.begin_reply(chat.id, chat.leaf_id, model="m")
    store.finish_reply(reply.id, "\x1b]0;title\x07 and \x9b31m `\x1b[0m`", "stop")
    async with open_window() as window:
        await window.until(lambda: window.listed)
        assert window.listed[0].startswith("␛[2Jgone␇ [bold]")
        window.pane.post_message(ChatList.Picked(chat.id))
        await window.until(lambda: "␛]0;title␇ and <U+009B>31m ␛[0m" in window.screen_text())


@pytest.fixture
def damaged_store(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "chats.db").write_bytes(b"this is no database" * 100)


@pytest.mark.usefixtures("damaged_store")
async def test_a_damaged_store_is_one_sentence_and_the_prompt_stays(
    open_window: OpenWindow,
) -> None:
    async with open_window() as window:
        await window.until(lambda: "chats.db" in window.pane.notice.text)
        await window.send("do not lose this")
        await window.pilot.pause()
        assert window.pane.prompt.text == "do not lose this"
        assert "chats.db" in window.pane.notice.text


async def test_the_list_gives_way_in_a_narrow_window(open_window: OpenWindow) -> None:
    async with open_window(size=(80, 24)) as window:
        chat_list = window.app.screen.query_one(ChatList)
        assert not chat_list.display
        await window.pilot.press("ctrl+b")
        assert chat_list.display
        await window.pilot.press("ctrl+b")
        await window.pilot.resize_terminal(120, 40)
        await window.pilot.press("ctrl+b")
        await window.until(lambda: chat_list.display)


@pytest.mark.parametrize(
    ("columns", "listed", "with_panel"),
    [(80, False, False), (100, True, True), (120, True, False), (160, True, True)],
)
async def test_the_window_makes_room_for_what_is_read(
    open_window: OpenWindow, store: ChatStore, columns: int, *, listed: bool, with_panel: bool
) -> None:
    title = "A title that is too long for thirty"
    store.new_chat(title=title)
    async with open_window(size=(columns, 30)) as window:
        await window.until(lambda: window.listed)
        chats = window.app.screen.query_one(ChatList)
        assert chats.display == listed
        assert (title in window.listed[0]) == (columns >= 160)
        await window.pilot.press("ctrl+t")
        assert chats.display == with_panel
        await window.pilot.pause()
        if columns >= 120:
            assert window.pane.size.width >= 72
        await window.pilot.press("ctrl+t")
        assert chats.display == listed


async def test_the_keys_are_one_key_away(open_window: OpenWindow) -> None:
    async with open_window(size=(80, 24)) as window:
        await window.pilot.press("f1")
        assert isinstance(window.app.screen, Help)
        await window.pilot.press("escape")
        assert not isinstance(window.app.screen, Help)


async def test_a_chat_that_another_window_writes_in_is_never_deleted_as_empty(
    open_window: OpenWindow, store: ChatStore
) -> None:
    async with open_window() as window:
        await window.write("never mind")
        await window.until(lambda: window.listed)
        (chat,) = store.chats()
        window.pane.prompt.put("")
        await window.until(lambda: not store.chat(chat.id).draft)
        store.add_message(chat.id, None, "user", "written elsewhere")
        await window.pilot.press("ctrl+n")
        await window.pilot.pause()
        assert [message.content for message in store.branch(chat.id)] == ["written elsewhere"]


def burst(window: Window, *keys: str) -> None:
    """Keys as a terminal delivers them: faster than the window takes them in."""
    for key in keys:
        name = "space" if key == " " else key
        window.app.post_message(events.Key(name, key if len(key) == 1 else None))


async def test_what_was_typed_just_before_quitting_is_in_the_draft(
    open_window: OpenWindow, store: ChatStore
) -> None:
    text = "typed in one breath, and then away"
    async with open_window() as window:
        await window.pilot.pause()
        burst(window, *text, "ctrl+q")
        await window.until(lambda: not window.app.is_running)
    assert [chat.draft for chat in store.chats()] == [text]


async def test_what_is_typed_around_a_new_chat_goes_where_it_belongs(
    open_window: OpenWindow, store: ChatStore
) -> None:
    async with open_window() as window:
        await window.pilot.pause()
        burst(window, *"to be sent", "enter", *"first draft", "ctrl+n", *"second")
        await window.until(lambda: window.pane.prompt.text == "second", 5)
        await window.until(lambda: len(store.chats()) == 2, 5)
    assert {(chat.title, chat.draft) for chat in store.chats()} == {
        ("to be sent", "first draft"),
        ("", "second"),
    }


async def test_a_chat_deleted_elsewhere_gives_way_to_a_new_one(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = add_chat(store, "soon gone")
    async with open_window() as window:
        await window.until(lambda: window.listed)
        window.pane.post_message(ChatList.Picked(chat.id))
        await window.until(lambda: "soon gone" in window.screen_text())
        store.delete_chat(chat.id)
        await window.write("keep these words")
        await window.until(lambda: "deleted elsewhere" in window.pane.notice.text)
        assert "soon gone" not in window.screen_text()
        await window.until(lambda: [c.draft for c in store.chats()] == ["keep these words"])
        await window.pilot.press("enter")
        await window.until(lambda: "keep these words" in window.screen_text())
    assert [c.title for c in store.chats()] == ["keep these words"]


async def test_characters_go_to_the_prompt_wherever_the_focus_is(
    open_window: OpenWindow, store: ChatStore
) -> None:
    add_chat(store, "one")
    async with open_window() as window:
        await window.until(lambda: window.listed)
        for widget in (window.app.screen.query_one(ChatList), window.pane.transcript):
            widget.focus()
            await window.pilot.press("h", "i")
            assert window.pane.prompt.has_focus
        window.app.screen.set_focus(None)
        await window.pilot.press("!")
        assert window.pane.prompt.text == "hihi!"
        await window.pilot.press("f1", "x", "escape")
        assert window.pane.prompt.text == "hihi!"


async def test_ctrl_c_says_how_to_quit_in_the_window_s_own_line(open_window: OpenWindow) -> None:
    async with open_window() as window:
        await window.until(lambda: window.pane.notice.text)
        await window.pilot.press("ctrl+c")
        assert window.pane.notice.text == "Ctrl+Q quits."
        assert not len(window.app._notifications)


async def test_an_unknown_theme_is_told(open_window: OpenWindow) -> None:
    async with open_window(theme="no-such-theme") as window:
        await window.until(lambda: "'no-such-theme'" in window.pane.notice.text, 5)


async def test_prompts_given_back_stand_on_lines_of_their_own(open_window: OpenWindow) -> None:
    async with open_window() as window:
        window.pane.prompt.give_back("second")
        window.pane.prompt.give_back("first")
        assert window.pane.prompt.text == "first\nsecond"


async def test_a_huge_paste_is_refused_and_a_long_line_stays_one(
    open_window: OpenWindow, stored: Callable[[], list[StoredMessage]]
) -> None:
    async with open_window() as window:
        prompt = window.pane.prompt
        window.app.post_message(events.Paste("word " * 100_000))
        await window.until(lambda: "500,000 characters" in window.pane.notice.text)
        assert prompt.text == ""
        window.app.post_message(events.Paste("word " * 10_000 + "\r\n" + "x" * 30_000))
        await window.until(lambda: prompt.text)
        assert prompt.text == "word " * 10_000 + "\n" + "x" * 30_000
        assert prompt.wrapped_document.height > 80_000 // prompt.size.width
        await window.pilot.press("a", "enter")
        await window.until(stored)
    assert [each.content for each in stored()] == ["word " * 10_000 + "\n" + "x" * 30_000 + "a"]


async def test_what_is_pasted_into_the_list_goes_into_the_prompt(
    open_window: OpenWindow, store: ChatStore
) -> None:
    add_chat(store, "a chat")
    async with open_window() as window:
        await window.until(lambda: window.listed)
        window.app.screen.query_one(ChatList).focus()
        await window.pilot.pause()
        window.app.post_message(events.Paste("/quit\r\nnow"))
        await window.until(lambda: window.pane.prompt.text == "/quit\nnow")
        assert window.pane.prompt.has_focus
        window.pane.prompt.put("")


async def test_what_is_pasted_into_a_line_is_one_line_that_no_terminal_obeys(
    open_window: OpenWindow,
) -> None:
    async with open_window() as window:
        await window.send("/search \x1b[31m")
        await window.until(lambda: isinstance(window.app.screen, Search))
        line = window.app.screen.query_one(Input)
        assert line.value == "␛[31m"
        window.app.post_message(events.Paste(" sea\r\n\x1b[2J\x9bblue"))
        await window.until(lambda: line.value == " sea ␛[2J<U+009B>blue")
        await window.pilot.press("escape")


async def test_a_line_end_cut_in_two_is_no_symbol(open_window: OpenWindow) -> None:
    async with open_window() as window:
        pane = window.pane
        pane.transcript.begin_reply(reply_to([]))
        for piece in ("one\r", "\n\r", "\ntwo\r"):
            pane._painter.add(piece)
            pane._painter.paint()
        await window.pilot.pause()
        assert window.screen_text().split("\n")[-2:] == ["one", "two"]
