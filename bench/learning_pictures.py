"""The pictures of docs/learning.md, from a real session: `python -m bench.learning_pictures docs`.

Chats that were made up, learned from by the starter, which takes a minute or two.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from bench.screenshot import without_remote_fonts
from bench.setting import temporary_home
from openchat_local.app.chats import ChatStore
from openchat_local.app.engine import local_engine
from openchat_local.app.paths import ensure_home
from openchat_local.app.settings.model import load_settings
from openchat_local.app.tui.app import ChatApp
from openchat_local.app.tui.screens.chat import ChatScreen
from openchat_local.app.tui.screens.learn import LearnScreen
from openchat_local.app.tui.screens.training import TrainingScreen
from openchat_local.app.tui.screens.versions import VersionsScreen
from openchat_local.app.tui.training_lines import share
from openchat_local.app.tui.widgets.chat_pane import VOTE, ChatPane
from openchat_local.app.tui.widgets.learn_panel import LearnPanel
from openchat_local.app.tui.widgets.status_bar import StatusBar

SIZE = (132, 36)
SHOWN = 0.8  # of the run
PICTURES = ("learn.svg", "training.svg", "compare.svg", "versions.svg")
PLANTS = ("tomatoes", "basil", "roses", "carrots", "lavender", "mint", "beans", "onions", "ivy",
          "potatoes", "ferns", "pumpkins", "strawberries", "peas")  # fmt: skip
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


class Session:
    """The window, driven: a picture at each station of the loop."""

    def __init__(self, app: ChatApp, pilot: Pilot[None], home: Path, folder: Path) -> None:
        assert isinstance(app.screen, ChatScreen)
        self.app, self.pilot, self.home, self.folder = app, pilot, home, folder
        self.chat = app.screen

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self.pilot.pause(0.1)
        await self.pilot.pause(0.5)

    async def send(self, text: str) -> None:
        self.chat.query_one(ChatPane).prompt.put(text)
        await self.pilot.press("enter")
        await self.pilot.pause(2)

    def picture(self, name: str) -> None:
        self.app.save_screenshot(str(self.folder / name))

    async def learn(self) -> None:
        await self.pilot.pause(1)
        await self.pilot.press("f8")
        await self.until(lambda: isinstance(self.app.screen, LearnScreen))
        panel = self.app.screen.query_one(LearnPanel)
        await self.until(lambda: "of memory" in panel.text)
        self.picture("learn.svg")
        await self.pilot.press("enter")
        await self.until(lambda: isinstance(self.app.screen, TrainingScreen))
        training = self.chat.training
        await self.until(lambda: (run := training.followed) and share(run.state) >= SHOWN)
        self.picture("training.svg")
        # Followed until its end was seen, which this screen does.
        await self.until(lambda: not ((run := training.followed) and run.state.at_work))
        await self.pilot.press("escape")
        # Its path is that of a folder which nobody else has.
        (self.home / "runs" / "mine" / "report.html").unlink()

    async def compare(self) -> None:
        await self.send("/compare")
        await self.send("When do I plant tulips?")
        await self.until(lambda: self.chat.query_one(StatusBar).status.activity == VOTE)
        self.picture("compare.svg")
        await self.send("1")
        await self.send("/versions")
        await self.until(lambda: isinstance(self.app.screen, VersionsScreen))
        await self.pilot.press("down")
        await self.pilot.pause(1)
        self.picture("versions.svg")
        await self.pilot.press("escape")


async def session(home: Path, folder: Path) -> None:
    made_up_chats(ensure_home())
    settings = load_settings({"sampling": {"temperature": 0.0, "max_tokens": 120}})
    engine = local_engine(settings)
    app = ChatApp(ensure_home(), settings, engine)
    async with app.run_test(size=SIZE) as pilot:
        window = Session(app, pilot, home, folder)
        await window.learn()
        await window.compare()
        await app.run_action("quit")
    engine.close()


if __name__ == "__main__":
    with temporary_home() as home:
        asyncio.run(session(home, Path(sys.argv[1])))
    for name in PICTURES:
        without_remote_fonts(Path(sys.argv[1]) / name)
