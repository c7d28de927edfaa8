"""The model that answers, changed or fetched while the window is open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from openchat_local.app.engine import look_at_model
from openchat_local.app.tui.chat.context import BUSY
from openchat_local.app.tui.pulling import Pull, Pulls
from openchat_local.app.tui.screens.models import Models
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from openchat_local.app.tui.chat.context import WindowContext


class Modelling:
    """`/model NAME`, and the screen of all models."""

    def __init__(self, stage: WindowContext, changed: Callable[[], None]) -> None:
        """`changed` is called when the open chat is held with another model."""
        self._stage = stage
        self._changed = changed
        self._pulls: Pulls | None = None

    async def choose(self, name: str = "") -> None:
        """Answer with the model `name`; without a name, show what there is."""
        if name:
            await self.use(name)
            return
        pane = self._stage.pane
        if self._pulls is None:
            self._pulls = Pulls(pane.screen)
        loaded = pane.room.loaded
        screen = Models(self._pulls, loaded.name if loaded else None)
        chosen = await pane.app.push_screen_wait(screen)
        if chosen is not None:
            await self.use(chosen)

    async def use(self, name: str) -> bool:
        """Answer with the model `name` from now on, in this chat and in new ones. Whether it
        does; where it does not, it was told why."""
        pane = self._stage.pane
        if pane.busy:
            pane.notice.tell(BUSY, error=True)
            return False
        try:
            await self._switch(name)
        except OpenChatError as problem:
            pane.notice.tell(str(problem), error=True)
            return False
        return True

    async def _switch(self, name: str) -> None:
        stage = self._stage
        pane, room = stage.pane, stage.pane.room
        await asyncio.to_thread(look_at_model, name)  # else nothing changes
        before = room.loaded
        pane.load_other(name)
        try:
            model = await asyncio.to_thread(room.set_model, name, stage.desk.settings)
        except OpenChatError:
            pane.load_again()
            raise
        await stage.desk.hold_with_model(name)
        notes = [note for note in (model.template_note, *model.notes) if note]
        left = before.adapter.name if before is not None and before.adapter else None
        if left:
            notes.append(f"The adapter {left} stays with {before.name if before else ''}.")
        pane.notice.tell(" ".join((f"{model.name} answers from here on.", *notes)))
        self._changed()

    def ended(self, pull: Pull) -> None:
        """Tell how fetching a model has ended."""
        notice = self._stage.pane.notice
        if pull.model is not None:
            reference = pull.model.card.reference
            notice.tell(
                f"{reference} is installed and verified: /model {reference} answers with it."
            )
        elif isinstance(pull.problem, OpenChatError):
            notice.tell(str(pull.problem), error=not pull.cancelled)
        elif pull.problem is not None:
            raise pull.problem

    def put_away(self) -> None:
        """The window closes: what is being fetched goes on another time."""
        if self._pulls is not None:
            self._pulls.cancel()
        self._stage.pane.room.close()
