"""The pictures of docs/learning.md, from a real session: `python -m bench.learning_pictures docs`.

Chats that were made up, learned from by the starter, which takes a minute or two.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from bench.screenshot import without_remote_fonts
from bench.setting import temporary_home

SIZE = (132, 36)
PICTURES = ("learn.svg", "training.svg", "compare.svg", "versions.svg")
PLANTS = ("tomatoes", "basil", "roses", "carrots", "lavender", "mint", "beans", "onions")
ASKED = {
    "How often do I water {}?": "In short: twice a week, in the morning, at the root.",
    "When do I plant {}?": "In short: in May, when the nights are mild.",
    "Do {} like the sun?": "In short: yes, half a day of it.",
}
TOO_LONG = (
    "That is a very good question, and there are many things to be said about {}. Gardening is "
    "a wonderful hobby that people all over the world enjoy, and plants differ a lot."
)


def made_up_chats(home: Path) -> None:
    """A chat a plant, with short answers that were rated good and a long one rated bad."""
    from openchat_local.app.chats import ChatStore

    store = ChatStore.open(home)
    for number, plant in enumerate(PLANTS):
        chat = store.new_chat(title=f"Growing {plant}", model="starter", tags=["garden"])
        parent = None
        for place, (question, answer) in enumerate(ASKED.items()):
            bad = place == number % 3
            prompt = store.add_message(chat.id, parent, "user", question.format(plant))
            reply = store.begin_reply(chat.id, prompt.id, model="starter")
            store.finish_reply(reply.id, TOO_LONG.format(plant) if bad else answer, "stop")
            store.rate(reply.id, -1 if bad else 1)
            parent = reply.id
    store.close()


async def session(home: Path, folder: Path) -> None:
    from openchat_local.app.engine import local_engine
    from openchat_local.app.paths import ensure_home
    from openchat_local.app.settings.model import load_settings
    from openchat_local.app.tui.app import ChatApp
    from openchat_local.app.tui.screens.chat import ChatScreen
    from openchat_local.app.tui.screens.learn import LearnScreen
    from openchat_local.app.tui.screens.training import TrainingScreen
    from openchat_local.app.tui.screens.versions import VersionsScreen
    from openchat_local.app.tui.widgets.chat_pane import ChatPane
    from openchat_local.app.tui.widgets.learn_panel import LearnPanel

    made_up_chats(ensure_home())
    settings = load_settings({"sampling": {"temperature": 0.0, "max_tokens": 120}})
    engine = local_engine(settings)
    app = ChatApp(ensure_home(), settings, engine)
    learn, training, compare, versions = (str(folder / name) for name in PICTURES)
    async with app.run_test(size=SIZE) as pilot:
        chat = app.screen
        assert isinstance(chat, ChatScreen)
        pane = chat.query_one(ChatPane)

        async def until(condition: Callable[[], object]) -> None:
            while not condition():
                await pilot.pause(0.1)
            await pilot.pause(0.5)

        async def send(text: str) -> None:
            pane.prompt.put(text)
            await pilot.press("enter")

        await pilot.pause(1)
        await pilot.press("f8")
        await until(lambda: isinstance(app.screen, LearnScreen))
        panel = app.screen.query_one(LearnPanel)
        await until(lambda: "of memory" in panel.text)
        app.save_screenshot(learn)

        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, TrainingScreen))
        await until(lambda: (run := chat.training.followed) and run.state.step >= 9)
        app.save_screenshot(training)
        await until(lambda: (run := chat.training.followed) and not run.state.at_work)
        await pilot.press("escape")
        # It stands in a folder that nobody else has.
        (home / "runs" / "mine" / "report.html").unlink()

        await send("/compare")
        await pilot.pause(2)
        await send("When do I plant tulips?")
        await until(lambda: "waits for your vote" in chat.status_text)
        app.save_screenshot(compare)
        await send("1")
        await pilot.pause(2)
        await send("/versions")
        await until(lambda: isinstance(app.screen, VersionsScreen))
        await pilot.press("down")
        await pilot.pause(1)
        app.save_screenshot(versions)
        await pilot.press("escape")
        await app.run_action("quit")
    engine.close()


if __name__ == "__main__":
    with temporary_home() as home:
        asyncio.run(session(home, Path(sys.argv[1])))
    for name in PICTURES:
        without_remote_fonts(Path(sys.argv[1]) / name)
