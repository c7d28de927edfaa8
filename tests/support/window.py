"""The chat window as a test drives it: what a user does, and what they see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field

from textual.command import CommandPalette
from textual.message import Message
from textual.pilot import Pilot
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from openchat_local.app.tui.app import ChatApp
from openchat_local.app.tui.widgets.chat_list import ChatList
from openchat_local.app.tui.widgets.chat_pane import ChatPane
from openchat_local.app.tui.widgets.status_bar import Status, StatusBar
from openchat_local.models.errors import ModelFileError
from support.settling import settled

LOOK_SECONDS = 0.1
NO_ENGINE = ModelFileError("There is no model here: name one with --model.")


@dataclass
class Window:
    """A running window, and words for what a user does and sees."""

    app: ChatApp
    pilot: Pilot[None]
    ended: int = 0
    """How many replies have ended."""
    _ended_before: int = 0
    _last: Message | None = None
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, message: Message) -> None:
        """A message of the app's; called for each, and again wherever it bubbles up to."""
        self._heard.set()
        if isinstance(message, ChatPane.Answered) and message is not self._last:
            self._last = message
            self.ended += 1

    @property
    def pane(self) -> ChatPane:
        return self.app.screen_stack[0].query_one(ChatPane)

    @property
    def status(self) -> Status:
        return self.app.screen_stack[0].query_one(StatusBar).status

    @property
    def listed(self) -> list[str]:
        options = self.app.screen_stack[0].query_one(ChatList).options
        return [str(option.prompt).strip() for option in options if option.id is not None]

    def screen_text(self) -> str:
        """What stands in the transcript, margins and blank rows left out."""
        return "\n".join(filter(None, self.screen_rows()))

    def screen_rows(self) -> list[str]:
        """The rows of the transcript, margins left out."""
        transcript = self.pane.transcript
        return [transcript.render_line(y).text.strip() for y in range(transcript.size.height)]

    async def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait until something is so: looked at whenever the window has dealt with a message,
        and now and then, since not all of it is the window's."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"this never came true; on the screen:\n{self.screen_text()}")
            self._heard.clear()
            await settled()
            if condition():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), LOOK_SECONDS)

    async def write(self, text: str) -> None:
        self.pane.prompt.focus()
        self.pane.prompt.insert(text)
        await self.pilot.pause()

    async def send(self, text: str) -> None:
        await self.write(text)
        self._ended_before = self.ended
        await self.pilot.press("enter")

    async def in_palette(self, words: str, found: str) -> None:
        """Open the palette, look for `words`, and run the first command, which is `found`."""
        await self.pilot.press("ctrl+p")
        await self.until(lambda: CommandPalette.is_open(self.app))
        await self.pilot.press(*words)
        commands = self.app.screen.query_one(OptionList)
        await self.until(lambda: found in [_first_line(option) for option in commands.options[:1]])
        await self.pilot.press("enter")

    async def answered(self) -> None:
        """Wait until the reply that was asked for has ended: however quick, it is not missed."""
        await self.until(lambda: self.ended > self._ended_before)
        self._ended_before = self.ended
        await self.until(lambda: not self.pane.busy)
        await self.pilot.pause()


def _first_line(option: Option) -> str:
    return str(option.prompt).partition("\n")[0].strip()


OpenWindow = Callable[..., AbstractAsyncContextManager[Window]]
