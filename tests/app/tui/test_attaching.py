"""Documents and folders in the window: seen before they are sent, refused, left with Esc."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from textual.widgets import OptionList, Static

from openchat_local.app.chats import ChatStore
from openchat_local.app.tui.questions.going_along import READING, GoingAlong
from openchat_local.app.tui.widgets.attached_files import AttachedFiles
from openchat_local.models.engine.local import LocalEngine
from support import documents as made
from support.window import OpenWindow, Window

PAGES = ["The keeper is called Marta. 🐐", "\f", *["\n".join(["她有十一只山羊。"] * 40)] * 10]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.pdf").write_bytes(made.pdf(PAGES))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "seals.md").write_text("Eleven seals lay on the beach. 🦭\n")
    (tmp_path / "notes" / "long.md").write_text("Nothing came by the harbour.\n\n" * 400)
    return tmp_path


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    store = ChatStore.open(home)
    yield store
    store.close()


def above_the_prompt(window: Window) -> str:
    return str(window.app.screen_stack[0].query_one(AttachedFiles).content)


def asked(window: Window) -> str:
    """What stands on the screen that shows what goes along, once it has been read."""
    screen = window.app.screen
    if not isinstance(screen, GoingAlong):
        return ""
    rows = (str(option.prompt) for option in screen.query_one(OptionList).options)
    said = [str(screen.query_one(f"#{part}", Static).content) for part in ("about", "text", "keys")]
    return "" if said[0] == READING else "\n".join([*said, *rows])


def prompts(store: ChatStore) -> list[str]:
    return [each.content for chat in store.chats() for each in store.branch(chat.id)]


async def test_a_document_is_shown_with_its_pages_and_what_of_it_fits_before_it_is_sent(
    open_window: OpenWindow, engine: LocalEngine, store: ChatStore
) -> None:
    async with open_window(engine, max_tokens=2) as window:
        await window.until(lambda: window.status.context)
        await window.write("Who is it? @report.pdf")
        await window.until(lambda: "PDF, 12 pages" in above_the_prompt(window))
        await window.until(lambda: "1,472 fit: pages 1-" in above_the_prompt(window))
        assert "1 of 12 pages has no text (scanned?)." in above_the_prompt(window)
        await window.until(lambda: (window.status.tokens or 0) > 2048)
        await window.pilot.press("enter")
        await window.until(lambda: "the context holds 2,048" in window.pane.notice.text)
        assert window.pane.prompt.text == "Who is it? @report.pdf"
        assert prompts(store) == []
        window.pane.prompt.put("Who is it? @report.pdf:1")
        await window.until(lambda: "PDF, page 1 of 12" in above_the_prompt(window))
        await window.pilot.press("enter")
        await window.answered()
        assert prompts(store)[0] == (
            "Who is it? @report.pdf:1\n\nFile report.pdf:1 (PDF, page 1 of 12):\n"
            "```\n[page 1]\nThe keeper is called Marta. 🐐\n```"
        )
        assert "▸ report.pdf:1 (PDF, page 1 of 12)  2 lines" in window.screen_text()


async def test_what_a_search_finds_is_listed_and_sent_when_it_was_seen(
    open_window: OpenWindow, store: ChatStore
) -> None:
    async with open_window(size=(80, 24)) as window:
        await window.send("How many seals? @notes/")
        await window.until(lambda: asked(window))
        assert "@notes/  1 passage of 1 of 2 files" in asked(window)
        assert "notes/seals.md (line 1; found in notes/)" in asked(window)
        assert "Eleven seals lay on the beach. 🦭" in asked(window)
        assert window.app.screen.query_one("#keys").region.bottom < 24
        await window.pilot.press("escape")
        await window.until(lambda: asked(window) == "")
        assert window.pane.prompt.text == "How many seals? @notes/"
        assert prompts(store) == []
        await window.pilot.press("enter")
        await window.until(lambda: asked(window))
        await window.pilot.press("enter")
        await window.until(lambda: prompts(store))
        (prompt,) = prompts(store)
        assert prompt.endswith("```md\nEleven seals lay on the beach. 🦭\n```")
        await window.until(lambda: window.pane.prompt.text == "")


async def test_a_document_that_was_not_shown_yet_is_shown_first(
    open_window: OpenWindow, store: ChatStore
) -> None:
    async with open_window() as window:
        window.pane.prompt.put("Who? @report.pdf:1")
        await window.pilot.press("enter")
        await window.until(lambda: "Marta" in asked(window))
        await window.pilot.press("enter")
        await window.until(lambda: prompts(store))
        assert "Marta" in prompts(store)[0]


async def test_what_goes_along_can_be_looked_at_while_the_prompt_is_written(
    open_window: OpenWindow, store: ChatStore
) -> None:
    async with open_window() as window:
        await window.write("x @report.pdf:1 @notes/")
        await window.pilot.press("alt+l")
        await window.until(lambda: asked(window))
        assert "Esc goes back to the prompt" in asked(window)
        await window.pilot.press("enter")
        assert isinstance(window.app.screen, GoingAlong)
        await window.pilot.press("escape")
        await window.until(lambda: asked(window) == "")
        window.pane.prompt.put("x")
        await window.pilot.press("alt+l")
        await window.until(lambda: "Nothing goes along" in window.pane.notice.text)
        assert prompts(store) == []


async def test_a_prompt_is_held_back_where_its_document_cannot_be_read(
    open_window: OpenWindow, store: ChatStore, folder: Path
) -> None:
    (folder / "locked.pdf").write_bytes(made.pdf(["x"], encrypted=True))
    async with open_window() as window:
        await window.send("Sum up @locked.pdf")
        await window.until(lambda: "Not sent, since @locked.pdf" in window.pane.notice.text)
        assert window.pane.prompt.text == "Sum up @locked.pdf"
        await window.until(lambda: "@locked.pdf is encrypted" in above_the_prompt(window))
        assert prompts(store) == []


async def test_esc_ends_the_reading_and_keeps_the_prompt(
    open_window: OpenWindow, store: ChatStore, folder: Path
) -> None:
    (folder / "bomb.docx").write_bytes(made.docx("<w:p/>" * 2_000_000))
    before = {child.pid for child in psutil.Process().children()}

    def children() -> set[int]:
        """Those that read. They stand still from when they were seen, and cost nothing."""
        found = {child.pid for child in psutil.Process().children()} - before
        for pid in found:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).suspend()
        return found

    async with open_window() as window:
        window.pane.prompt.put("Sum up @bomb.docx")
        window.pane.prompt.action_send()
        await window.until(lambda: isinstance(window.app.screen, GoingAlong) and children())
        await window.pilot.press("escape")
        await window.until(lambda: not isinstance(window.app.screen, GoingAlong))
        assert window.pane.prompt.text == "Sum up @bomb.docx"
        window.pane.prompt.put("")  # nor is it read for what stands above the prompt
        await window.until(lambda: not children())
        assert prompts(store) == []


async def test_an_edited_prompt_is_what_was_written_and_keeps_the_file_that_was_sent(
    open_window: OpenWindow, store: ChatStore, folder: Path
) -> None:
    (folder / "a.txt").write_text("as it was")
    async with open_window() as window:
        await window.send("Read @a.txt")
        await window.until(lambda: prompts(store))
        (folder / "a.txt").write_text("another")
        await window.pilot.press("alt+up", "e")
        await window.until(lambda: window.pane.prompt.text == "Read @a.txt")
        await window.pilot.press("space", *"now")
        await window.until(lambda: "@a.txt  as it was sent" in above_the_prompt(window))
        await window.pilot.press("enter")
        await window.until(lambda: any("now" in each for each in prompts(store)))
        assert prompts(store) == ["Read @a.txt now\n\nFile a.txt:\n```txt\nas it was\n```"]
