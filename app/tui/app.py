"""The Textual app: a theme, one screen, and an orderly end."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.worker import WorkerFailed

from openchat_local.app.tui.screens.chat import ChatScreen

if TYPE_CHECKING:
    from pathlib import Path

    from openchat_local.app.settings import Settings
    from openchat_local.models.engine.protocol import Engine
    from openchat_local.models.errors import OpenChatError


class ChatApp(App[None]):
    """Chats of the data folder `home`, answered by `engine`, or the reason why there is none.

    The engine is the caller's: the app starts to load it and never closes it.
    """

    TITLE = "openchat-local"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True)
    ]

    def __init__(self, home: Path, settings: Settings, engine: Engine | OpenChatError) -> None:
        super().__init__()
        self._home = home
        self._settings = settings
        self._engine = engine
        self.animation_level = "none"  # an animated scroll is twenty paintings of one

    @property
    def fault(self) -> Exception | None:
        """The bug that ended the app, for whoever ran it to report."""
        error = self._exception
        return error.error if isinstance(error, WorkerFailed) else error  # type: ignore[return-value]

    def _handle_exception(self, error: Exception) -> None:
        super()._handle_exception(error)
        # Textual would print every local variable, and so the user's chats.
        self._exit_renderables.clear()

    def get_default_screen(self) -> Screen[None]:
        theme = self._settings.tui.theme
        if theme in self.available_themes:
            self.theme = theme
        return ChatScreen(self._home, self._settings, self._engine)

    def on_mount(self) -> None:
        """A closed terminal or a polite kill ends the window as Ctrl+Q does."""
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP"):
            # Windows has neither the second signal nor loops that take handlers; nor do
            # loops beside the main thread.
            with suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(getattr(signal, name), self.call_later, self.action_quit)

    def action_help_quit(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, ChatScreen):
                screen.interrupt()

    async def action_quit(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, ChatScreen):
                await screen.shut_down()
        self.exit()
