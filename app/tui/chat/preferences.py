"""The settings of the program, changed while the window is open."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from textual.message import Message

from openchat_local.app.settings.edit import change_setting

if TYPE_CHECKING:
    from openchat_local.app.settings.model import Settings
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.options import Options


class SettingsChanged(Message):
    """The user has changed settings, which hold from now on."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings


class Preferences:
    """Lets changed settings hold in everything that knows them."""

    def __init__(self, window: WindowContext, options: Options) -> None:
        self._window = window
        self._options = options

    def take(self, settings: Settings) -> None:
        """Let these hold from now on."""
        window = self._window
        window.session.settings = settings
        window.pane.overflow = settings.context_overflow
        window.pane.post_message(SettingsChanged(settings))
        window.meter.recount_soon()
        window.show_options()
        window.begin(self._prepare, "prepare")

    def keep_theme(self, theme: str) -> None:
        """Write the theme that was chosen into the settings file; a problem is told."""
        self._window.begin(partial(self._keep_theme, theme), "theme")

    async def _keep_theme(self, theme: str) -> None:
        with self._window.telling():
            now = self._window.session.settings
            self.take(await asyncio.to_thread(change_setting, now, ("tui", "theme"), theme))

    async def _prepare(self) -> None:
        with self._window.telling():
            await self._options.prepare()
