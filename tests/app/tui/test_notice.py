"""What the window says above the prompt: for how long, and how an error differs."""

from __future__ import annotations

import pytest

from openchat_local.app.tui.widgets import notice
from support.window import OpenWindow


async def test_what_went_well_goes_by_itself_and_what_went_wrong_stays(
    open_window: OpenWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_window() as window:
        said = window.pane.notice
        said.tell("It failed.", error=True)
        assert str(said.content) == "✗ It failed."
        assert said.has_class("-error")
        monkeypatch.setattr(notice, "SECONDS", 0.01)
        monkeypatch.setattr(notice, "CHARACTERS_A_SECOND", 1000)
        said.tell("It stays.", stays=True)
        said.tell("It failed.", error=True)
        said.tell("It is done.")
        assert str(said.content) == "It is done."
        assert not said.has_class("-error")
        await window.until(lambda: not said.display)
        said.tell("It is done.")
        said.tell("It failed again.", error=True)  # the time of the one before is not its own
        await window.pilot.pause(0.1)
        assert said.text == "It failed again."
        await window.pilot.press("escape")
        assert not said.display


async def test_what_comes_by_itself_hides_nothing_that_stays_to_be_read(
    open_window: OpenWindow,
) -> None:
    async with open_window() as window:
        said = window.pane.notice
        said.tell("It failed.", error=True)
        said.add("The reply stopped.")
        assert said.text == "It failed.\nThe reply stopped."
        assert said.has_class("-error")
        said.tell("It is done.")
        said.add("The reply stopped.")
        assert said.text == "The reply stopped."
