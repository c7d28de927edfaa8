"""What each screen looks like, in a small terminal and in a large one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.app.settings.model import load_settings
from openchat_local.app.tui.app import ChatApp
from openchat_local.app.tui.widgets.chat_list import ChatList
from support.window import NO_ENGINE, Window

FOLDER = Path(__file__).parent / "snapshots"
NOW = 1_795_608_000.0  # a Wednesday in November 2026, noon in Greenwich
DAY = 86_400
PATH_LENGTH = 200
CHATS = (
    ("Old tax question", 400, {}),
    ("東京の灯台について教えてください", 20, {"private": True}),
    ("Trip to Łódź 🚂 and back again, with everybody", 3, {"tags": ["travel", "2026"]}),
    ("Names for a cat", 1, {"pinned": True}),
    ("[bold]not markup[/bold] \x1b[31m", 0.1, {}),
    ("What is a context window?", 0.05, {}),
)


@pytest.fixture
def at_noon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It is always the same moment, in the same place."""
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def fill(home: Path) -> None:
    store = ChatStore.open(home)
    for title, days, fields in CHATS:
        chat = store.new_chat(title=title, model="starter")
        prompt = store.add_message(chat.id, None, "user", f"{title}?")
        reply = store.begin_reply(chat.id, prompt.id, model="starter")
        store.finish_reply(reply.id, "An **answer** with 漢字.", "stop")
        store.update_chat(chat.id, **fields)  # type: ignore[typeddict-item]
        with store._database.writing() as connection:
            connection.execute(
                "UPDATE chats SET updated_at = ? WHERE id = ?", (NOW - days * DAY, chat.id)
            )
            connection.execute("UPDATE messages SET created_at = ?", (NOW - DAY,))
    store.close()


def picture(app: ChatApp) -> str:
    """The rows of the whole screen; the folder of this test, which is never the same, cut."""
    rows = ("".join(segment.text for segment in strip).rstrip()
            for strip in app.screen._compositor.render_strips())  # fmt: skip
    lines = list(rows)
    place = next((n for n, line in enumerate(lines) if "are in the file:" in line), None)
    return "\n".join(lines if place is None else lines[:place]) + "\n"


def check(name: str, text: str) -> None:
    """Compare with the file of that name; `SNAPSHOTS=write` writes it instead."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("SNAPSHOTS") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, (
        f"{path.name} shows something else now; if that is meant, run the test with "
        "SNAPSHOTS=write and look at the difference"
    )


@pytest.mark.usefixtures("at_noon")
@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_every_screen(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One screen names the home, and is laid out by the length of its path.
    home = tmp_path / ("h" * (PATH_LENGTH - len(str(tmp_path)) - 1))
    monkeypatch.setenv("OPENCHAT_LOCAL_HOME", str(home))
    fill(home)
    app = ChatApp(home, load_settings({"tui": {"theme": "textual-dark"}}), NO_ENGINE)
    seen: list[str] = []
    async with app.run_test(size=size) as pilot:
        window = Window(app, pilot)

        async def look(name: str) -> None:
            await pilot.pause()
            seen.append(f"──── {name} ────\n{picture(app)}")

        await window.until(lambda: window.listed)
        chats = app.screen.query_one(ChatList)
        if not chats.display:
            await pilot.press("ctrl+b")
        await look("a new chat, with the list")
        chat = next(each for each in chats.chats if each.title.startswith("Trip"))
        window.pane.post_message(ChatList.Picked(chat.id))
        await window.until(lambda: "An answer" in window.screen_text())
        window.pane.notice.dismiss()
        await pilot.press("ctrl+t")
        await look("a chat, with its panel")
        await pilot.press("escape", "/", "t")
        await look("commands")
        window.pane.prompt.put("")
        await pilot.press("ctrl+k", *"灯台")
        await look("search")
        await pilot.press("escape", "f2")
        await look("a title")
        await pilot.press("escape", "f1")
        await look("keys")
        await pilot.press("escape", "f9")
        await look("settings")
        await pilot.press("escape")
        await app.run_action("quit")
    check(f"screens-{size[0]}x{size[1]}", "".join(seen))
