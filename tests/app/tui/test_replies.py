"""The starter model answers in the real window."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore, StoredMessage
from openchat_local.app.tui.widgets.chat_list import ChatList
from openchat_local.app.tui.widgets.queued_prompts import QueuedPrompts
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from support.engines import SlowDiskEngine
from support.window import OpenWindow, Window
from support.wiretap import Wiretap

Stored = Callable[[], list[StoredMessage]]

LONG = "Write a very long story about a lighthouse, with many chapters."


async def test_a_prompt_is_answered_on_the_screen_and_on_disk(
    open_window: OpenWindow, engine: LocalEngine, stored: Stored
) -> None:
    async with open_window(engine) as window:
        # Sent at once, while the model still loads: stored now, answered when it is ready.
        await window.send("What is the capital of France?")
        await window.answered()
        prompt, reply = stored()
        assert prompt.content == "What is the capital of France?"
        assert reply.finish_reason in ("stop", "length")
        assert len(reply.content) > 20
        assert reply.content[:40] in window.screen_text()
        assert window.status.tokens_per_second
        usage = reply.usage
        assert usage is not None
        # The meter counts the conversation as the next prompt will find it.
        await window.until(lambda: (window.status.tokens or 0) >= usage["prompt_tokens"])
        assert window.status.context == 2048

        # A second turn goes on from the first.
        await window.send("And of Italy?")
        await window.answered()
        assert [message.role for message in stored()] == ["user", "assistant"] * 2
        assert stored()[2].parent_id == stored()[1].id


async def test_the_meter_counts_the_unsent_prompt(
    open_window: OpenWindow, engine: LocalEngine
) -> None:
    async with open_window(engine) as window:
        await window.until(lambda: window.status.tokens == 0)
        await window.write("one two three four five six seven")
        await window.until(lambda: (window.status.tokens or 0) > 7)
        before = window.status.tokens
        assert before is not None
        await window.write(" eight nine ten")
        await window.until(lambda: (window.status.tokens or 0) > before)


def waiting(window: Window) -> int:
    """How many prompts stand above the prompt box."""
    queued = window.app.screen.query_one(QueuedPrompts)
    return len(str(queued.content).splitlines()) if queued.display else 0


async def test_a_prompt_waits_for_the_reply_is_shown_and_can_be_taken_back(
    open_window: OpenWindow, starter_path: Path, home: Path
) -> None:
    store = ChatStore.open(home)
    # While it loads, the first prompt has not been answered for as long as this takes.
    engine = SlowDiskEngine(EngineOptions(model_path=starter_path, context=2048))
    async with open_window(engine, max_tokens=4) as window:
        await window.send(LONG)
        await window.until(lambda: window.pane.waiting)
        await window.send("Say one word.")
        await window.send("a mistake")
        await window.until(lambda: waiting(window) == 2)
        shown = str(window.app.screen.query_one(QueuedPrompts).content)
        assert shown == "Next: Say one word.\nThen, unless Up takes it back: a mistake"
        # Whoever dies now has lost neither.
        await window.until(lambda: store.chats()[0].draft == "Say one word.\na mistake")
        await window.pilot.press("up")
        await window.until(lambda: waiting(window) == 1)
        assert window.pane.prompt.text == "a mistake"
        engine.may_load.set()
        (chat,) = store.chats()
        await window.until(lambda: store.chat(chat.id).message_count == 4)
        await window.until(lambda: store.branch(chat.id)[-1].finish_reason)
        assert [each.content for each in store.branch(chat.id)[::2]] == [LONG, "Say one word."]
        assert waiting(window) == 0
        assert window.pane.prompt.text == "a mistake"
        await window.until(lambda: store.chat(chat.id).draft == "a mistake")
    engine.close()
    store.close()


async def test_what_waits_stays_with_its_chat(
    open_window: OpenWindow, starter_path: Path, home: Path
) -> None:
    store = ChatStore.open(home)
    engine = SlowDiskEngine(EngineOptions(model_path=starter_path, context=2048))
    async with open_window(engine, max_tokens=4) as window:
        await window.send(LONG)
        await window.until(lambda: window.pane.waiting)
        await window.send("Say one word.")
        await window.until(lambda: waiting(window) == 1)
        await window.write("and more")
        await window.pilot.press("ctrl+n")
        await window.until(lambda: waiting(window) == 0)
        assert window.pane.prompt.text == ""
        await window.until(lambda: store.chats()[0].draft == "Say one word.\nand more")
        engine.may_load.set()
        await window.until(lambda: not window.pane.busy)
    assert [(chat.message_count, chat.draft) for chat in store.chats()] == [
        (2, "Say one word.\nand more")
    ]
    engine.close()
    store.close()


async def test_what_waits_is_no_version_of_a_prompt_that_is_edited_meanwhile(
    open_window: OpenWindow, starter_path: Path, home: Path
) -> None:
    store = ChatStore.open(home)
    engine = SlowDiskEngine(EngineOptions(model_path=starter_path, context=2048))
    async with open_window(engine, max_tokens=4) as window:
        await window.send("first")
        await window.until(lambda: window.pane.waiting)
        await window.send("second")
        await window.until(lambda: waiting(window) == 1)
        await window.pilot.press("alt+up", "e")
        await window.until(lambda: window.pane.editing)
        engine.may_load.set()
        (chat,) = store.chats()
        await window.until(lambda: store.chat(chat.id).message_count == 4)
        await window.until(lambda: not window.pane.busy)
        assert [each.content for each in store.branch(chat.id)[::2]] == ["first", "second"]
        assert window.pane.editing is not None
        assert window.pane.prompt.text == "first"
        await window.pilot.press("escape")
    engine.close()
    store.close()


async def test_stopping_keeps_what_came(
    open_window: OpenWindow, engine: LocalEngine, stored: Stored
) -> None:
    async with open_window(engine, max_tokens=1500) as window:
        await window.send(LONG)
        await window.until(lambda: window.pane.reply and window.pane.reply.tokens > 10)
        await window.send("a second prompt at the same time")
        await window.send("and a third")
        await window.until(lambda: waiting(window) == 2)
        await window.write("a fourth")
        await window.pilot.press("escape")
        await window.until(lambda: not window.pane.busy)
        await window.until(lambda: "— cancelled —" in window.screen_text())
        # What waited for a reply that was stopped is not sent.
        await window.until(lambda: waiting(window) == 0)
        assert window.pane.prompt.text == "a second prompt at the same time\nand a third\na fourth"
        _, reply = stored()
        assert reply.finish_reason == "cancelled"
        assert len(reply.content) > 20


async def test_stopping_before_the_model_is_loaded(
    open_window: OpenWindow, engine: LocalEngine, stored: Stored
) -> None:
    slow = SlowDiskEngine(engine.options)
    async with open_window(slow) as window:
        await window.send("Hello!")
        await window.until(lambda: window.pane.busy)
        await window.pilot.press("escape")
        await window.until(lambda: not window.pane.busy)
        slow.may_load.set()
        await window.until(lambda: window.status.activity == "" and window.pane.loader.loaded)
        assert [message.role for message in stored()] == ["user"]
        await window.pilot.press("enter")  # with no new prompt, the old one is answered
        await window.until(lambda: window.pane.busy)
        await window.answered()
        assert [message.role for message in stored()] == ["user", "assistant"]


async def test_a_reply_goes_on_while_another_chat_is_open(
    open_window: OpenWindow, engine: LocalEngine
) -> None:
    async with open_window(engine, max_tokens=1500) as window:
        await window.send(LONG)
        await window.until(lambda: window.pane.reply and window.pane.reply.tokens > 5)
        reply = window.pane.reply
        assert reply is not None
        await window.pilot.press("ctrl+n")
        await window.until(lambda: LONG not in window.screen_text())
        seen = reply.tokens
        await window.until(lambda: reply.tokens > seen + 10)
        assert reply.text[:40] not in window.screen_text()
        window.pane.post_message(ChatList.Picked(reply.chat_id))
        await window.until(lambda: reply.text.split()[0] in window.screen_text())
        text = reply.text
        await window.until(lambda: len(reply.text) > len(text) + 40)
        await window.pilot.press("escape")
        await window.until(lambda: not window.pane.busy)
        assert "— cancelled —" in window.screen_text()


async def test_a_killed_engine_is_one_line_and_the_next_prompt_works(
    open_window: OpenWindow, engine: LocalEngine, stored: Stored
) -> None:
    async with open_window(engine, max_tokens=300) as window:
        await window.send(LONG)
        await window.until(lambda: window.pane.reply and window.pane.reply.tokens > 10)
        assert engine.pid is not None
        kill(engine.pid)
        await window.until(lambda: not window.pane.busy)
        assert "The engine ended" in window.pane.notice.text
        _, reply = stored()
        assert reply.finish_reason == "engine died"
        assert len(reply.content) > 20
        assert reply.content.split()[0] in window.screen_text()

        await window.send("What is the capital of France?")
        await window.until(lambda: len(stored()) == 4 and not window.pane.busy)
        assert not window.pane.notice.text
    assert stored()[-1].content


async def test_a_chat_can_be_deleted_while_it_is_answered(
    open_window: OpenWindow, engine: LocalEngine, stored: Stored
) -> None:
    async with open_window(engine, max_tokens=1500) as window:
        await window.send(LONG)
        await window.until(lambda: window.pane.reply and window.pane.reply.tokens > 5)
        await window.pilot.press("ctrl+d")
        await window.until(lambda: not window.listed and not window.pane.busy)
        await window.until(lambda: "is deleted" in window.pane.notice.text)
    assert stored() == []


async def test_quitting_in_mid_reply_closes_the_reply(
    open_window: OpenWindow, engine: LocalEngine, stored: Stored
) -> None:
    async with open_window(engine, max_tokens=1500) as window:
        await window.send(LONG)
        await window.until(lambda: window.pane.reply and window.pane.reply.tokens > 5)
    assert stored()[-1].finish_reason == "cancelled"
    assert stored()[-1].content


async def test_a_file_that_is_no_model_leaves_the_window_usable(
    open_window: OpenWindow, tmp_path: Path, stored: Stored
) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(200))
    engine = LocalEngine(EngineOptions(model_path=path))
    async with open_window(engine) as window:
        await window.until(lambda: "broken.gguf" in window.pane.notice.text)
        assert window.status.activity == "no model"
        await window.send("stored all the same")
        await window.until(lambda: "stored all the same" in window.screen_text())
        await window.until(lambda: "broken.gguf" in window.pane.notice.text)
        assert not window.pane.busy
    assert [message.content for message in stored()] == ["stored all the same"]
    engine.close()


def kill(pid: int) -> None:
    # Windows has no SIGKILL; its TerminateProcess is what SIGTERM is there.
    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


async def test_a_prompt_that_cannot_fit_is_given_back_and_not_stored(
    open_window: OpenWindow, engine: LocalEngine, stored: Stored
) -> None:
    async with open_window(engine) as window:
        await window.until(lambda: window.pane.loader.loaded)
        text = "word " * 2100
        await window.send(text)
        await window.until(lambda: "context holds 2,048" in window.pane.notice.text)
        assert window.pane.prompt.text == text
    assert stored() == []


async def test_another_chat_does_not_show_the_speed_of_this_reply(
    open_window: OpenWindow, engine: LocalEngine
) -> None:
    async with open_window(engine, max_tokens=1500) as window:
        await window.send(LONG)
        await window.until(lambda: window.status.tokens_per_second)
        await window.pilot.press("ctrl+n")
        await window.until(lambda: "another chat" in window.status.activity)
        reply = window.pane.reply
        assert reply is not None
        tokens = reply.tokens
        await window.until(lambda: reply.tokens > tokens + 150)
        assert window.status.tokens_per_second is None
        assert "another chat" in window.status.activity
        await window.pilot.press("ctrl+c")
        await window.until(lambda: not window.pane.busy)


@pytest.mark.skipif(os.name == "nt", reason="a shell stands in between")
async def test_a_prompt_goes_to_the_engine_once(
    open_window: OpenWindow,
    own_engine: LocalEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tap = Wiretap(tmp_path, monkeypatch)
    async with open_window(own_engine, max_tokens=3) as window:
        for prompt in ("Hello!", "And again?"):
            await window.send(prompt)
            await window.answered()
    own_engine.close()
    sent = [frame["do"] for frame in tap.frames()]
    assert sent.count("generate") == 2
    # The meter has questions of its own; nothing else that needs the conversation is asked.
    assert {*sent} <= {"load", "generate", "fit", "leave"}
