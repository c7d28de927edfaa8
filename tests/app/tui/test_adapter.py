"""`/adapter` in the window: swapped while it is open, and noted on what it wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from openchat_local.app.chats import ChatStore, StoredMessage
from openchat_local.app.tui.widgets.options_panel import OptionsPanel
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.library.adapters import AdapterLibrary
from support.adapters import expert_card, write_random_adapter
from support.window import OpenWindow

Stored = Callable[[], list[StoredMessage]]


async def test_an_adapter_is_swapped_while_the_window_is_open(
    open_window: OpenWindow,
    own_engine: LocalEngine,
    stored: Stored,
    home: Path,
    starter_path: Path,
    tmp_path: Path,
) -> None:
    adapter = write_random_adapter(tmp_path / "a.gguf", starter_path)
    AdapterLibrary(home / "adapters").add("mine", adapter)
    async with open_window(own_engine, max_tokens=8) as window:
        await window.send("/adapter")
        await window.until(lambda: "Installed: mine." in window.pane.notice.text)

        await window.send("Name three animals.")
        await window.answered()
        pid = own_engine.pid
        assert "starter" not in window.screen_text()
        await window.send("/adapter mine")
        await window.until(lambda: "with the adapter mine" in window.pane.notice.text)
        await window.until(lambda: "\nstarter  — ended" in window.screen_text())
        own = "'Expert', the adapter's own"
        assert own in window.pane.notice.text
        await window.until(lambda: window.status.model == "starter + mine · Expert")
        await window.send("/condition")
        await window.until(lambda: f"The condition is {own}." in window.pane.notice.text)
        await window.send("/chat")
        panel = window.app.screen.query_one(OptionsPanel)
        await window.until(lambda: panel.display and panel._rows)
        assert ("condition", "condition", own, False) in panel._rows
        await window.pilot.press("escape")
        await window.send("/condition Code")
        await window.until(lambda: window.status.model == "starter + mine · Code")
        await window.send("/adapter mine")
        await window.until(
            lambda: "condition 'Code'. It was trained for" in window.pane.notice.text
        )
        await window.send("/condition default")
        await window.until(lambda: window.status.model == "starter + mine · Expert")
        await window.send("Name three animals.")
        await window.answered()

        await window.send("/adapter yours")
        await window.until(lambda: "no adapter named 'yours'" in window.pane.notice.text)
        await window.send("/adapter none")
        await window.until(lambda: "without an adapter" in window.pane.notice.text)
        await window.until(lambda: window.status.model == "starter")
        await window.until(lambda: "\nstarter + mine · Expert  " in window.screen_text())
        assert "\nstarter  — ended" not in window.screen_text()
        await window.send("Name three animals.")
        await window.answered()
        assert (own_engine.pid, own_engine.loads) == (pid, 1)

    replies = [message for message in stored() if message.role == "assistant"]
    assert [reply.adapter for reply in replies] == [None, "mine", None]
    assert [reply.condition for reply in replies] == ["", "Expert", ""]
    assert not any("/adapter" in message.content for message in stored())
    store = ChatStore.open(home)
    assert [chat.adapter for chat in store.chats()] == ["none"]
    store.close()


async def test_the_system_prompt_of_an_adapter_is_offered_and_taken(
    open_window: OpenWindow, own_engine: LocalEngine, home: Path, starter_path: Path, tmp_path: Path
) -> None:
    card = replace(expert_card(starter_path), system_prompt="Speak like a\npirate.")
    adapter = write_random_adapter(tmp_path / "a.gguf", starter_path, card=card)
    AdapterLibrary(home / "adapters").add("pirate", adapter)
    async with open_window(own_engine) as window:
        await window.send("/system adapter")
        await window.until(lambda: "No adapter that knows" in window.pane.notice.text)
        await window.send("/adapter pirate")
        await window.until(lambda: "/system adapter takes it" in window.pane.notice.text)
        await window.send("/system adapter")
        await window.until(lambda: "Speak like" in window.pane.notice.text)
        assert "from the next reply on" in window.pane.notice.text
        await window.send("/adapter pirate")
        await window.until(lambda: "with the adapter pirate" in window.pane.notice.text)
        assert "/system adapter" not in window.pane.notice.text


async def test_without_an_engine_the_reason_is_told(open_window: OpenWindow) -> None:
    async with open_window() as window:
        await window.send("/adapter none")
        await window.until(lambda: "There is no model here" in window.pane.notice.text)
