"""The screen on which it is chosen what the model learns from."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.screen import Screen
from textual.widgets import Input, OptionList, Static

from openchat_local.app.chats import ChatStore
from openchat_local.app.learning.backends import Extra, InstallError, Installing
from openchat_local.app.learning.rows_file import ROWS_IN_RUN
from openchat_local.app.settings.model import load_settings
from openchat_local.app.tui.questions.choose_one import ChooseOne
from openchat_local.app.tui.questions.confirm import Confirm
from openchat_local.app.tui.questions.line import AskLine
from openchat_local.app.tui.screens.chat import ChatScreen
from openchat_local.app.tui.screens.learn import LearnScreen
from openchat_local.app.tui.screens.learn_install import LearnInstall
from openchat_local.app.tui.screens.learn_rules import LearnRules
from openchat_local.app.tui.screens.training import TrainingScreen
from openchat_local.app.tui.widgets.learn_panel import LearnPanel
from openchat_local.app.tui.widgets.offer_list import OfferList
from openchat_local.finetune.run.background import background_runs
from support.openchat_gguf import openchat_vocabulary, write_model
from support.rated_chats import enough, talk
from support.window import OpenWindow, Window


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in OpenChat's shape, narrow, with its real vocabulary."""
    path = tmp_path_factory.mktemp("learning") / "tiny.gguf"
    return write_model(
        path, openchat_vocabulary(), context=512, embedding=64, feed_forward=128, kv_heads=2
    )


@pytest.fixture
def store(home: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatStore]:
    """The chats of the window, which answers with the tiny model."""
    monkeypatch.setenv("OPENCHAT_LOCAL_MODEL", str(base))
    store = ChatStore.open(home)
    yield store
    store.close()


async def open_learning(window: Window) -> LearnScreen:
    await window.until(lambda: window.listed)
    await window.pilot.press("f8")
    screen = window.app.screen
    assert isinstance(screen, LearnScreen)
    await window.until(lambda: screen.request is not None)
    return screen


def rows(window: Window) -> list[str]:
    """The screen as it is painted."""
    strips = window.app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


def amounts(screen: LearnScreen) -> str:
    return str(screen.query_one("#amounts", Static).content)


async def choose(
    window: Window, screen: LearnScreen, row: str, asks: type[Screen[Any]], *keys: str
) -> None:
    """Press Enter on a row of the choices, and then these keys on what it asks."""
    options = screen.query_one(OptionList)
    options.focus()
    options.highlighted = options.get_option_index(row)
    await window.pilot.press("enter")
    await window.until(lambda: isinstance(window.app.screen, asks))
    await window.pilot.press(*keys)


async def test_what_is_chosen_is_counted_and_shown(
    open_window: OpenWindow, store: ChatStore, home: Path
) -> None:
    good, bad = enough(store)
    talk(store, "Nothing was said of it", ("one", None))
    talk(store, "灯台 [bold]x[/]", ("two", 1), tags=["work"])
    talk(store, "Secret", ("three", 1), private=True)
    async with open_window(size=(80, 24)) as window:
        screen = await open_learning(window)
        offers = screen.query_one(OfferList)
        await window.until(lambda: "tokens" in amounts(screen))
        assert amounts(screen).startswith("3 chats, 11 replies: 7 expert, 0 middle, 4 sub-optimal")
        assert "Left out: 1 private, 1 without a reply to learn from" in amounts(screen)
        assert "1 private chat is never learned from." in screen.query_one(LearnPanel).text
        assert [offer.title for offer in offers.offers][1:] == ["What was bad", "What was good"]
        shown = "\n".join(rows(window))
        assert "✓ 灯台 [bold]x[/]" in shown
        assert "Secret" not in shown
        assert "Begin to learn" in shown

        # One chat after the other is left out, and too little is said with how much is missing.
        await window.pilot.press("end", "space")
        assert screen.request is not None
        assert screen.request.selection.excluded == {good.id}
        await window.until(lambda: "rate or edit 3 more" in screen.query_one(LearnPanel).text)
        await window.pilot.pause()
        beside = " ".join(row.rpartition("▏")[2].strip("│ ") for row in rows(window))
        assert "rate or edit 3 more" in beside  # on the screen, and not below its edge
        assert amounts(screen).startswith("2 of 3 chats, 5 replies: 1 expert")
        await window.pilot.press("a")
        assert screen.request.selection.excluded == frozenset()
        await window.pilot.press("home", "down", "a", "space")
        assert screen.request.selection.excluded >= {good.id}
        await window.pilot.press("a")

        # The rows of the chat under the cursor, as they are trained on.
        await window.pilot.press("home", "down", "f2")
        lessons = screen.query_one("#lessons", Static)
        await window.until(lambda: "lead 3" in str(lessons.content))
        assert "Row 1 of 1 · sub-optimal · under “GPT3” · counts 0.1" in str(lessons.content)
        assert "GPT3 Assistant: lead 3<|end_of_turn|>" in str(lessons.content)
        assert any("GPT3 Assistant:" in row for row in rows(window))
        await window.pilot.press("escape")
        assert window.app.screen is screen

        # Filters.
        await window.pilot.press("shift+tab", *"lead")
        await window.until(lambda: [offer.chat_id for offer in offers.offers] == [bad.id])
        screen.query_one(Input).clear()
        await window.until(lambda: len(offers.offers) == 3)
        await choose(window, screen, "tags", AskLine, *"#work", "enter")
        await window.until(lambda: len(offers.offers) == 1)
        await choose(window, screen, "days", ChooseOne, "down", "enter")
        await window.until(lambda: screen.request.selection.since is not None)  # type: ignore[union-attr]
        await window.pilot.press("escape")
        assert not isinstance(window.app.screen, LearnScreen)
    assert not (home / "runs").exists()


async def test_rules_are_changed_here_and_kept(open_window: OpenWindow, store: ChatStore) -> None:
    enough(store)
    async with open_window(size=(200, 60)) as window:
        screen = await open_learning(window)
        lessons = screen.query_one("#lessons", Static)
        await window.until(lambda: "lead 3" in str(lessons.content))
        await window.pilot.pause()
        shown = "\n".join(rows(window))
        # Chats, rows and choices side by side, with nothing cut that matters.
        for words in ("expert middle sub-optimal", "GPT3 User: Say lead 0", "three times over"):
            assert words in shown
        assert "What was bad" in shown
        await choose(window, screen, "rules", LearnRules)
        rules = window.app.screen
        options = rules.query_one(OptionList)
        assert "rated good" in str(options.get_option_at_index(2).prompt)
        options.highlighted = 5  # rated bad
        await window.pilot.press("enter")
        await window.until(lambda: isinstance(window.app.screen, ChooseOne))
        await window.pilot.press("end", "enter")
        await window.until(lambda: load_settings().learning.disliked == "nothing")
        await window.until(lambda: window.app.screen is rules)
        # What cannot be together stays as it was.
        options.highlighted = len(options.options) - 2
        await window.pilot.press("enter", "ctrl+u", "9", "enter")
        await window.until(lambda: "lower it" in str(rules.query_one(Static).content))
        assert load_settings().learning.suboptimal.reward == 0.1
        await window.pilot.press("escape")
        await window.until(lambda: "6 replies" in amounts(screen))
        assert len(screen.query_one(OfferList).offers) == 1


async def test_learning_begins_once_from_what_was_shown(
    open_window: OpenWindow, store: ChatStore, home: Path
) -> None:
    good, _ = enough(store)
    talk(store, "Not this one", ("dross", 1))
    gone = talk(store, "Deleted while one looks", ("nothing", 1))
    async with open_window(size=(200, 60)) as window:
        screen = await open_learning(window)
        await choose(window, screen, "length", ChooseOne, "end", "enter")
        await window.until(lambda: screen.request.steps == 10)  # type: ignore[union-attr]
        await choose(window, screen, "name", AskLine, *"none", "enter")
        panel = screen.query_one(LearnPanel)
        await window.until(lambda: "cannot be named 'none'" in panel.text)
        offers = screen.query_one(OfferList)
        offers.focus()
        await window.pilot.press("home", "down", "space")
        store.delete_chat(gone.id)
        offers.action_start()  # and Enter again, before anything came of it
        await window.pilot.press("enter")
        await window.until(lambda: isinstance(window.app.screen, TrainingScreen))
        notice = window.pane.notice
        await window.until(lambda: "“mine” is being learned from 2 rows" in notice.text)
        assert "1 deleted chat is left out." in notice.text
        (run,) = background_runs(home)
        try:
            data = (run.path / ROWS_IN_RUN).read_text("utf-8")
            written = [json.loads(line) for line in data.splitlines()]
            assert [row["class"] for row in written] == ["sub-optimal", "expert"]
            assert written[1]["messages"][1] == {"role": "assistant", "content": "gold 0"}
            assert good.id not in data
            assert "dross" not in data

            await window.pilot.press("escape")
            again = await open_learning(window)
            assert again.request is not None
            assert again.request.name == "mine-2"
            await window.pilot.press("enter")
            await window.until(
                lambda: (
                    isinstance(window.app.screen, Confirm)
                    or "mine is being trained" in again.query_one(LearnPanel).text
                )
            )
            await window.pilot.press("escape")
        finally:
            run.stop()
            chat = window.app.screen_stack[0]
            assert isinstance(chat, ChatScreen)
            chat.training.asks = False  # it may go on when this window closes


async def test_what_trains_is_installed_where_nothing_can(
    open_window: OpenWindow, store: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("torch", "mlx"):
        monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    # A real pip, which looks at what is here and changes nothing.
    monkeypatch.setenv("PIP_DRY_RUN", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    enough(store)
    async with open_window(size=(80, 24)) as window:
        screen = await open_learning(window)
        panel = screen.query_one(LearnPanel)
        await window.until(lambda: "Nothing that can train is installed" in panel.text)
        assert "openchat-local[mlx]" in panel.text
        await window.pilot.press("enter")
        await window.until(lambda: isinstance(window.app.screen, LearnInstall))
        install = window.app.screen
        options = install.query_one(OptionList)
        listed = [str(option.prompt) for option in options.options]
        options.highlighted = next(n for n, text in enumerate(listed) if "[mlx]" in text)
        assert "about 190 MB" in listed[options.highlighted]
        await window.pilot.press("enter")
        await window.until(lambda: isinstance(window.app.screen, Confirm))
        await window.pilot.press("n", "enter", "y")
        await window.until(lambda: window.app.screen is screen)
        # It is still hidden from this program: nothing is begun.
        assert "Nothing that can train is installed" in panel.text
        assert screen.request is not None
        await window.pilot.press("escape")


def test_what_cannot_be_installed_is_told_with_what_to_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    heard: list[str] = []
    with pytest.raises(InstallError, match=r"write it yourself.* pip install openchat-no-such"):
        Installing(Extra("nothing", "openchat-no-such", "0 MB")).run(heard.append)
    assert any("openchat-no-such" in line for line in heard)


async def test_nothing_is_asked_where_there_is_nothing_to_learn(
    open_window: OpenWindow, store: ChatStore, home: Path
) -> None:
    talk(store, "Not rated", ("something", None))
    async with open_window() as window:
        screen = await open_learning(window)
        panel = screen.query_one(LearnPanel)
        await window.until(lambda: "no reply to learn from yet" in panel.text)
        await window.pilot.press("enter")
        await window.until(lambda: not screen._starting)
        assert window.app.screen is screen
        assert panel.text.count("no reply to learn from yet") == 1
    assert not background_runs(home)
