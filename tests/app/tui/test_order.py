"""What comes faster than the window can do it is done in the order in which it came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input

from openchat_local.app.chats import Chat, ChatStore, StoredMessage
from openchat_local.app.tui.chat.order import Order, Place
from openchat_local.app.tui.questions.line import AskLine
from openchat_local.app.tui.screens.help import Help
from openchat_local.app.tui.widgets.chat_list import ChatList
from openchat_local.models.engine.local import LocalEngine
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


def burst(window: Window, *keys: str) -> None:
    """Keys as a terminal delivers them: faster than the window takes them in."""
    for key in keys:
        name = "space" if key == " " else key
        window.app.post_message(events.Key(name, key if len(key) == 1 else None))


def prompts(store: ChatStore) -> list[list[str]]:
    """The prompts of each chat, the newest chat first."""
    return [
        [message.content for message in store.branch(chat.id) if message.role == "user"]
        for chat in store.chats()
    ]


def drafts(store: ChatStore) -> set[str]:
    return {chat.draft for chat in store.chats()}


# The order itself


async def test_places_have_their_turn_in_the_order_in_which_they_were_taken() -> None:
    order, done = Order(), []
    places = [order.take() for _ in range(3)]

    async def work(number: int, place: Place) -> None:
        async with place:
            await asyncio.sleep(0)
            done.append(number)

    # The tasks begin the other way round.
    await asyncio.gather(*(work(number, places[number]) for number in (2, 1, 0)))
    assert done == [0, 1, 2]
    assert not order.busy


async def test_a_place_that_is_given_up_or_cancelled_is_waited_for_no_longer() -> None:
    order = Order()
    given_up, cancelled, last = order.take(), order.take(), order.take()

    async def wait() -> None:
        async with cancelled:
            raise AssertionError("this was cancelled before its turn")

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    async with given_up:
        assert order.mine is given_up
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        given_up.give_up()
        assert order.mine is None
        async with last:
            assert order.mine is last
    assert not order.busy


# In the window


async def test_a_prompt_of_one_breath_with_a_new_chat_begins_it_and_the_draft_stays(
    open_window: OpenWindow, store: ChatStore
) -> None:
    async with open_window() as window:
        await window.pilot.pause()
        burst(window, *"one", "enter", *"draft", "ctrl+n", *"two", "enter", "ctrl+n", *"three")
        await window.until(lambda: "three" in drafts(store), 10)
        assert window.pane.prompt.text == "three"
    assert sorted(prompts(store)) == [[], ["one"], ["two"]]
    assert drafts(store) == {"draft", "", "three"}


async def test_a_command_has_been_obeyed_when_the_prompt_behind_it_is_sent(
    open_window: OpenWindow, store: ChatStore
) -> None:
    async with open_window() as window:
        await window.pilot.pause()
        burst(window, *"one", "enter", *"/new", "enter", *"two", "enter")
        burst(window, *"/condition Code", "enter", *"/title mine", "enter", "ctrl+n", *"three")
        await window.until(lambda: "three" in drafts(store), 10)
    assert sorted(prompts(store)) == [[], ["one"], ["two"]]
    assert {chat.title: chat.condition for chat in store.chats()} == {
        "one": None,
        "mine": "Code",
        "": None,
    }


async def test_what_is_written_behind_enter_in_the_list_goes_into_the_chat_that_it_opens(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chats = [add_chat(store, text) for text in ("older", "newer")]
    store.set_draft(chats[0].id, "half a ")
    async with open_window() as window:
        await window.until(lambda: len(window.listed) == 2)
        await window.write("unsent")
        window.app.screen.query_one(ChatList).focus()
        await window.pilot.press("home")
        burst(window, "enter", *"to newer", "enter", "ctrl+n", *"new", "enter")
        await window.until(lambda: ["new"] in prompts(store), 10)
        window.pane.post_message(ChatList.Picked(chats[0].id))
        await window.until(lambda: "older" in window.screen_text())
        burst(window, *"thought", "enter")
        await window.until(lambda: ["older", "half a thought"] in prompts(store), 10)
    assert sorted(prompts(store)) == [
        [],
        ["new"],
        ["newer", "to newer"],
        ["older", "half a thought"],
    ]
    assert "unsent" in drafts(store)


async def test_what_is_written_behind_a_deletion_is_not_deleted(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = add_chat(store, "to be deleted")
    async with open_window() as window:
        await window.until(lambda: window.listed)
        window.pane.post_message(ChatList.Picked(chat.id))
        await window.until(lambda: "to be deleted" in window.screen_text())
        burst(window, *"draft", "ctrl+d", *"new words")
        await window.until(lambda: "is deleted" in window.pane.notice.text)
        await window.until(lambda: window.pane.prompt.text == "new words")
        await window.until(lambda: drafts(store) == {"new words"})
        window.pane.prompt.put("")
        await window.pilot.press("ctrl+z")
        await window.until(lambda: window.pane.prompt.text == "draft")


async def test_a_question_makes_nothing_else_wait(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chats = [add_chat(store, text) for text in ("older", "newer")]
    async with open_window() as window:
        await window.until(lambda: len(window.listed) == 2)
        window.pane.post_message(ChatList.Picked(chats[1].id))
        await window.until(lambda: "newer" in window.screen_text())
        await window.send("/title")
        await window.until(lambda: isinstance(window.app.screen, AskLine))
        window.pane.post_message(ChatList.Picked(chats[0].id))
        await window.until(lambda: "older" in window.screen_text())
        window.app.screen.query_one(Input).value = "another title"
        await window.pilot.press("enter")
        await window.until(lambda: store.chat(chats[1].id).title == "another title")


async def test_a_new_version_is_one_though_the_chat_is_left_at_once(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = add_chat(store, "first words")
    async with open_window() as window:
        await window.until(lambda: window.listed)
        window.pane.post_message(ChatList.Picked(chat.id))
        await window.until(lambda: "first words" in window.screen_text())
        await window.write("unsent")
        await window.pilot.press("ctrl+up")
        burst(window, "e", "end", *"!", "enter", *" too", "ctrl+n", *"next")
        await window.until(lambda: "next" in drafts(store), 10)
        assert window.pane.editing is None
    (first,) = store.branch(chat.id)
    assert (first.content, first.siblings) == ("first words!", 2)
    assert store.chat(chat.id).draft == "unsent too"


async def test_another_answer_comes_before_what_is_sent_behind_it(
    open_window: OpenWindow,
    engine: LocalEngine,
    stored: Callable[[], list[StoredMessage]],
) -> None:
    async with open_window(engine, max_tokens=4) as window:
        await window.send("one")
        await window.answered()
        burst(window, "ctrl+r", *"two", "enter")
        await window.until(lambda: [m.role for m in stored()].count("assistant") == 2)
        await window.until(lambda: not window.pane.busy)
    messages = stored()
    assert [message.content for message in messages if message.role == "user"] == ["one", "two"]
    assert messages[1].siblings == 2


async def test_a_widget_that_hangs_keeps_no_key_from_its_work(
    open_window: OpenWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openchat_local.app.tui.one_by_one.LONGEST_SECONDS", 0.05)
    async with open_window() as window:
        await window.pilot.pause()
        go_on = asyncio.Event()
        window.pane.prompt.call_later(go_on.wait)
        burst(window, "a", "f1")
        await window.until(lambda: isinstance(window.app.screen, Help))
        assert window.pane.prompt.text == ""
        go_on.set()
        await window.until(lambda: window.pane.prompt.text == "a")


async def test_a_paste_and_keys_stay_in_order(open_window: OpenWindow, store: ChatStore) -> None:
    async with open_window() as window:
        await window.pilot.pause()
        burst(window, "a")
        window.app.post_message(events.Paste("b\nc"))
        burst(window, "d", "enter", "ctrl+n")
        window.app.post_message(events.Paste("next"))
        await window.until(lambda: "next" in drafts(store), 10)
    assert sorted(prompts(store)) == [[], ["ab\ncd"]]
