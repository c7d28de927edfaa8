"""The chat window as a test drives it: what a user does, and what they see."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from textual.message import Message
from textual.pilot import Pilot

from openchat_local.app.tui.app import ChatApp
from openchat_local.app.tui.widgets.chat_list import ChatList
from openchat_local.app.tui.widgets.chat_pane import ChatPane
from openchat_local.app.tui.widgets.status_bar import Status, StatusBar
from openchat_local.models.errors import ModelFileError

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

    def hear(self, message: Message) -> None:
        """A message of the app's; called for each, and again wherever it bubbles up to."""
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
        for _ in range(round(seconds / 0.02)):
            if condition():
                return
            await self.pilot.pause(0.02)
        raise AssertionError(f"this never came true; on the screen:\n{self.screen_text()}")

    async def write(self, text: str) -> None:
        self.pane.prompt.focus()
        self.pane.prompt.insert(text)
        await self.pilot.pause()

    async def send(self, text: str) -> None:
        await self.write(text)
        self._ended_before = self.ended
        await self.pilot.press("enter")

    async def answered(self) -> None:
        """Wait until the reply that was asked for has ended: however quick, it is not missed."""
        await self.until(lambda: self.ended > self._ended_before)
        self._ended_before = self.ended
        await self.until(lambda: not self.pane.busy)
        await self.pilot.pause()


OpenWindow = Callable[..., AbstractAsyncContextManager[Window]]
