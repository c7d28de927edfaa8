"""The pictures of the manual, from a real session: `python -m bench.screenshot docs`."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from bench.setting import temporary_home

PROMPTS = {
    "Suggest a name for a cat.": 24,
    "List three uses of a paper clip.": 48,
    # One that the small model answers rightly.
    "Write a Python function that reverses a string, with a short explanation.": 400,
}
SIZE = (104, 32)
WITH_PANEL = (132, 32)  # beside the chat, not above it
PICTURES = ("screenshot.svg", "search.svg", "panel.svg")


async def session(folder: Path) -> None:
    from openchat_local.app.engine import local_engine
    from openchat_local.app.paths import ensure_home
    from openchat_local.app.settings.model import load_settings
    from openchat_local.app.tui.app import ChatApp

    settings = load_settings({"sampling": {"temperature": 0.0}})
    engine = local_engine(settings)
    app = ChatApp(ensure_home(), settings, engine)
    async with app.run_test(size=SIZE) as pilot:
        from openchat_local.app.tui.widgets.chat_pane import ChatPane

        pane = app.screen.query_one(ChatPane)
        for prompt, tokens in PROMPTS.items():
            await pilot.press("ctrl+n")
            pane.prompt.put(prompt)
            await pilot.press("enter")
            while not pane.busy:
                await pilot.pause(0.05)
            while pane.busy:
                await pilot.pause(0.05)
                if pane.reply is not None and pane.reply.tokens >= tokens:
                    pane.stop()
            await pilot.pause(0.5)
        chat, search, panel = (str(folder / name) for name in PICTURES)
        app.save_screenshot(chat)
        await pilot.press("ctrl+k", *"cat")
        await pilot.pause(0.5)
        app.save_screenshot(search)
        await pilot.press("escape")
        await pilot.resize_terminal(*WITH_PANEL)
        pane.prompt.put("/temperature 0.2")
        await pilot.press("enter")
        await pilot.pause(0.5)
        pane.notice.dismiss()
        await pilot.press("ctrl+t")
        await pilot.pause(0.5)
        app.save_screenshot(panel)
        await app.run_action("quit")
    engine.close()


def without_remote_fonts(picture: Path) -> None:
    """Textual's SVG would fetch a font from the network; any monospace one will do."""
    svg = picture.read_text("utf-8")
    svg = re.sub(r"@font-face\s*\{[^}]*\}", "", svg)
    picture.write_text(svg.replace("font-family: Fira Code", "font-family: monospace"), "utf-8")


if __name__ == "__main__":
    with temporary_home():
        asyncio.run(session(Path(sys.argv[1])))
    for name in PICTURES:
        without_remote_fonts(Path(sys.argv[1]) / name)
