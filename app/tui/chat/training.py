"""The run that learns, followed by the window: whoever began it, and also after a crash.

While nothing learns this costs a look at a folder, with each look for other windows. What is
known of runs is imported when there is one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from textual.message import Message

from openchat_local.app.tui.questions.closing import LeaveLearning
from openchat_local.finetune.run.registry import FOLDER
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from pathlib import Path

    from textual.timer import Timer

    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.finetune.run.background import BackgroundRun
    from openchat_local.finetune.run.course import Course
    from openchat_local.finetune.run.events import BackgroundEvent
    from openchat_local.finetune.run.run_state import RunState


class TerminalSign(Message):
    """What the terminal is to be sent, for whoever looks elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


LOOK_SECONDS = 1.0
"""Between two looks at a run that is at work; where there is none, there is no timer."""


@dataclass(slots=True, eq=False)
class Followed:
    """A run as the window knows it, with how many bytes of its events it has read. `witnessed`
    says that the window has seen it learn, so that its end is news; `told`, that it was told."""

    run: BackgroundRun
    state: RunState
    course: Course
    stopping: bool = False
    read: int = 0
    witnessed: bool = False
    told: bool = False


class Training:
    """Follows the run that is at work, else the last that ended and that nobody has seen."""

    def __init__(self, window: WindowContext) -> None:
        self._window = window
        self._folder = window.session.home / FOLDER
        self.followed: Followed | None = None
        self.on_change: Callable[[], None] | None = None
        """Called when there is something new to be shown."""
        self.asks = True
        """Whether the window asks before it closes over a run that is at work."""
        self._timer: Timer | None = None
        self._lock = asyncio.Lock()
        self._problem = ""

    async def look(self) -> None:
        """See whether a run was begun anywhere, or looked at in another window; with the look
        for others, which comes every two seconds."""
        there = self.followed is not None or self._folder.is_dir()
        if there and self._timer is None:
            await self._look()

    def begun(self) -> None:
        """A run was begun or resumed here: follow it at once."""
        self._window.begin(self._look, "training")

    async def seen(self) -> None:
        """The user has looked at how the run ended: it is no news any more."""
        followed = self.followed
        if followed is not None and not followed.state.at_work:
            await asyncio.to_thread(_see_all, self._window.session.home)
            await self._look()

    async def _look(self) -> None:
        async with self._lock:
            try:
                await self._follow()
                self._problem = ""
            except OpenChatError as problem:
                self._let_go()
                if str(problem) != self._problem:  # once, not every two seconds
                    self._problem = str(problem)
                    self._window.tell(self._problem, error=True)

    async def _follow(self) -> None:
        """Take in what the run has told since the last look, and show what is new."""
        before = self.followed
        now = await asyncio.to_thread(_news, self._window.session.home, before)
        if now is None:
            self._let_go()
            return
        if before is not None and before.run.id != now.run.id:
            before = None
        followed = before or Followed(now.run, now.state, _no_course())
        for event in now.events:
            followed.course.take(event)
        stands = followed.state == now.state and followed.stopping == now.stopping
        same = followed is before and stands and not now.events
        followed.state, followed.stopping, followed.read = now.state, now.stopping, now.read
        self.followed = followed
        self._keep_looking(now.state.at_work)
        if now.state.at_work:
            followed.witnessed, followed.told = True, False
        elif not followed.told:
            followed.told = True
            self._tell_end(followed)
        if not same:
            self._show()

    def _let_go(self) -> None:
        self._keep_looking(False)
        if self.followed is not None:
            self.followed = None
            self._show()

    def _keep_looking(self, at_work: bool) -> None:
        if at_work and self._timer is None:
            self._timer = self._window.pane.set_interval(LOOK_SECONDS, self.begun)
        elif not at_work and self._timer is not None:
            self._timer.stop()
            self._timer = None

    def _show(self) -> None:
        from openchat_local.app.tui.training_lines import status_word

        followed = self.followed
        word = "" if followed is None else status_word(followed.state)
        self._window.pane.set_status(learning=word)
        if self.on_change is not None:
            self.on_change()

    # Its end

    def _tell_end(self, followed: Followed) -> None:
        from openchat_local.app.tui.training_lines import end_sentence

        sentence = end_sentence(followed.run.name, followed.state, followed.course)
        self._window.notice.add(sentence)
        if followed.witnessed:
            self._window.begin(partial(self._give_a_sign, sentence))

    async def _give_a_sign(self, sentence: str) -> None:
        """Have the terminal tell it too, for whoever looks elsewhere."""
        from openchat_local.app.tui.notification import sign

        pane = self._window.pane
        wanted = self._window.session.settings.tui.notify
        signs = await asyncio.to_thread(sign, pane.app.title, sentence, wanted, os.environ)
        pane.post_message(TerminalSign(signs))

    # Closing the window

    def may_close(self) -> bool:
        """False where the user is asked first what is to become of a run that is at work. Who
        asks to close again instead of an answer lets it go on."""
        followed = self.followed
        waits = followed is None or followed.state.phase == "paused" or not followed.state.at_work
        if waits or not self.asks:
            return True
        self.asks = False
        self._window.begin(self._ask, "closing")
        return False

    async def _ask(self) -> None:
        from openchat_local.app.tui.training_lines import closing_question

        followed, app = self.followed, self._window.pane.app
        if followed is not None:
            question = closing_question(followed.run.name, followed.state)
            answer = await app.push_screen_wait(LeaveLearning(question))
            self.asks = answer == "stay"
            if answer == "stop":
                with self._window.telling():
                    await asyncio.to_thread(followed.run.stop)
        if not self.asks:
            await app.run_action("quit")


@dataclass(frozen=True, slots=True)
class _News:
    run: BackgroundRun
    state: RunState
    stopping: bool
    events: list[BackgroundEvent]
    read: int


def _news(home: Path, followed: Followed | None) -> _News | None:
    """What there is to tell of the run to be followed; None where there is none to follow.

    Raises OpenChatError."""
    from openchat_local.finetune.run.background import background_runs, run_at_work
    from openchat_local.finetune.run.ownership import STOP

    at_work = run_at_work(home)
    run = at_work or next(iter(background_runs(home)), None)
    if run is None:
        return None
    read = 0
    if followed is not None and followed.run.id == run.id:
        run, read = followed.run, followed.read  # it need not read again what it has read
    try:
        state = run.state()
        events, read = run.events(read)
    except OSError as error:
        raise OpenChatError(
            f"What {run.name} tells in {run.path} cannot be read ({error.strerror}): make it "
            "readable."
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise OpenChatError(
            f"What {run.name} tells in {run.path} cannot be read ({error}): another version of "
            "the program may train it."
        ) from error
    stopping = state.at_work and (run.path / STOP).exists()
    return _News(run, state, stopping, events, read)


def _see_all(home: Path) -> None:
    """The screen lists them all: none of their ends is news any more."""
    from openchat_local.finetune.run.background import background_runs

    for run in background_runs(home):
        run.seen()


def _no_course() -> Course:
    from openchat_local.finetune.run.course import Course

    return Course()
