"""The settings of the program, changed while the window is open."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from openchat_local.app.settings.edit import change_setting
from openchat_local.app.tui.chat.work import begin
from openchat_local.app.tui.messages import SettingsChanged
from openchat_local.app.tui.screens.settings import SettingsScreen

if TYPE_CHECKING:
    from collections.abc import Callable

    from openchat_local.app.settings.model import Settings
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.options import Tuning


class Preferences:
    """Lets changed settings hold in everything that knows them."""

    def __init__(self, stage: WindowContext, tuning: Tuning, changed: Callable[[], None]) -> None:
        self._stage = stage
        self._tuning = tuning
        self._changed = changed

    def open(self) -> None:
        """Show the settings screen."""
        screen = SettingsScreen(self._stage.desk.settings, self.take)
        self._stage.pane.app.push_screen(screen)

    def take(self, settings: Settings) -> None:
        """Let these hold from now on."""
        pane = self._stage.pane
        self._stage.desk.settings = settings
        pane.overflow = settings.context_overflow
        pane.app.post_message(SettingsChanged(settings))
        self._stage.counter.recount_soon()
        self._changed()
        begin(pane, self._prepare, "prepare")

    def keep_theme(self, theme: str) -> None:
        """Write the theme that was chosen into the settings file; a problem is told."""
        begin(self._stage.pane, partial(self._keep_theme, theme), "theme")

    async def _keep_theme(self, theme: str) -> None:
        with self._stage.telling():
            now = self._stage.desk.settings
            changed = await asyncio.to_thread(change_setting, now, ("tui", "theme"), theme)
            self.take(changed)
            if isinstance(screen := self._stage.pane.app.screen, SettingsScreen):
                screen.show(changed)

    async def _prepare(self) -> None:
        with self._stage.telling():
            await self._tuning.prepare()
