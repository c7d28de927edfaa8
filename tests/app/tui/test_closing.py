"""Closing the window while another instance keeps the chats from being opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.models.system.file_lock import try_lock
from support.window import OpenWindow

STILL = "still being opened"


@pytest.fixture
def opening(home: Path) -> Iterator[list[int]]:
    """The lock that an instance holds while it opens the chats; cleared when it is let go."""
    (home / "instances").mkdir(parents=True)
    held = [descriptor] if (descriptor := try_lock(home / "instances" / "opening")) else []
    assert held
    yield held
    for each in held:
        os.close(each)


@pytest.mark.usefixtures("opening")
async def test_without_a_word_it_closes_at_once(open_window: OpenWindow) -> None:
    async with open_window() as window:
        await window.pilot.press("ctrl+q")
        await window.until(lambda: not window.app.is_running, 5)


async def test_a_prompt_is_waited_for_and_kept(
    open_window: OpenWindow, home: Path, opening: list[int]
) -> None:
    async with open_window() as window:
        await window.write("half a thought")
        await window.pilot.press("ctrl+q")
        await window.until(lambda: STILL in window.pane.notice.text)
        await window.write(", and more")  # the window lives
        assert window.app.is_running
        os.close(opening.pop())
        await window.until(lambda: not window.app.is_running)
    store = ChatStore.open(home)
    assert [chat.draft for chat in store.chats()] == ["half a thought, and more"]
    store.close()


@pytest.mark.usefixtures("opening")
async def test_asked_twice_it_closes(open_window: OpenWindow) -> None:
    async with open_window() as window:
        await window.write("half a thought")
        await window.pilot.press("ctrl+q")
        await window.until(lambda: STILL in window.pane.notice.text)
        await window.pilot.press("ctrl+q")
        await window.until(lambda: not window.app.is_running, 5)
