"""The settings screen: what it shows, and what it writes into the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import OptionList, Static

from openchat_local.app.settings.model import load_settings
from openchat_local.app.tui.questions.choose_one import ChooseOne
from openchat_local.app.tui.screens.settings import SettingsScreen
from support.window import OpenWindow, Window


async def open_settings(window: Window) -> SettingsScreen:
    await window.pilot.press("f9")
    screen = window.app.screen
    assert isinstance(screen, SettingsScreen)
    return screen


async def go_to(window: Window, screen: SettingsScreen, name: str) -> None:
    names = [row.name for row in screen._rows]
    screen.query_one(OptionList).highlighted = names.index(name)
    await window.pilot.pause()


def about(screen: SettingsScreen) -> str:
    return str(screen.query_one("#about", Static).content)


async def test_settings_are_changed_in_the_file_and_hold_at_once(
    open_window: OpenWindow, home: Path
) -> None:
    home.mkdir()
    file = home / "config.toml"
    file.write_text("# mine\n[sampling]\ntop_k = 3 # few\n", encoding="utf-8")
    async with open_window() as window:
        screen = await open_settings(window)
        await go_to(window, screen, "sampling.top_k")
        assert "likeliest tokens" in about(screen)
        await window.pilot.press("enter", *"5", "enter")  # the old value is selected
        await window.until(lambda: about(screen) == "sampling.top_k is 5.")
        assert file.read_text(encoding="utf-8") == "# mine\n[sampling]\ntop_k = 5 # few\n"

        await window.pilot.press("enter", "ctrl+u", *"many", "enter")
        wrong = "✗ sampling.top_k cannot be 'many': it is a whole number from 0 to 2,147,483,647;"
        await window.until(lambda: about(screen).startswith(wrong))
        assert screen.query_one("#about").has_class("-error")
        assert load_settings().sampling.top_k == 5

        await go_to(window, screen, "tui.enter")
        before = file.read_text(encoding="utf-8")
        await window.pilot.press("enter")
        await window.until(lambda: isinstance(window.app.screen, ChooseOne))
        await window.pilot.press("down", "escape")
        await window.until(lambda: window.app.screen is screen)
        assert file.read_text(encoding="utf-8") == before
        await window.pilot.press("enter")
        await window.until(lambda: isinstance(window.app.screen, ChooseOne))
        await window.pilot.press("down", "enter")
        await window.until(lambda: about(screen) == "tui.enter is newline.")
        await go_to(window, screen, "context")
        await window.pilot.press("enter", "ctrl+u", *"2048", "enter")
        await window.until(lambda: "context is 2048 from the next start on." in about(screen))
        await go_to(window, screen, "sampling.top_k")
        await window.pilot.press("delete")
        await window.until(lambda: about(screen) == "sampling.top_k is 40.")
        await window.pilot.press("escape")

        assert "Ctrl+J sends" in str(window.pane.prompt.placeholder)
        await window.pilot.press("a", "enter", "b")
        assert window.pane.prompt.text == "a\nb"
    assert load_settings().context == 2048
    assert file.read_text(encoding="utf-8").startswith("# mine\n")


async def test_a_variable_that_comes_first_is_told(
    open_window: OpenWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENCHAT_LOCAL_SAMPLING__TOP_K", "9")
    async with open_window() as window:
        screen = await open_settings(window)
        await go_to(window, screen, "sampling.top_k")
        assert "environment" in str(
            screen.query_one(OptionList).highlighted_option.prompt  # type: ignore[union-attr]
        )
        await window.pilot.press("enter", "ctrl+u", *"5", "enter")
        await window.until(lambda: "environment sets it too" in about(screen))


async def test_a_broken_file_is_told_and_not_touched(open_window: OpenWindow, home: Path) -> None:
    async with open_window() as window:
        (home / "config.toml").write_text("model = \n", encoding="utf-8")
        screen = await open_settings(window)
        await go_to(window, screen, "sampling.top_k")
        await window.pilot.press("enter", "ctrl+u", *"5", "enter")
        await window.until(lambda: "correct it first" in about(screen))
    assert (home / "config.toml").read_text(encoding="utf-8") == "model = \n"
