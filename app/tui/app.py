"""The Textual app: themes, keys, the command palette, and an orderly end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input
from textual.worker import WorkerFailed

from openchat_local.app.paths import config_path
from openchat_local.app.printable import one_line
from openchat_local.app.settings.layers import place_of
from openchat_local.app.tui.chat.preferences import SettingsChanged
from openchat_local.app.tui.chat.training import TerminalSign
from openchat_local.app.tui.clipboard import in_browser
from openchat_local.app.tui.keys import Command, KeyedApp
from openchat_local.app.tui.palette import palette_commands
from openchat_local.app.tui.screens.chat import ChatScreen
from openchat_local.app.tui.screens.settings import SettingsScreen
from openchat_local.app.tui.terminal import TerminalParser
from openchat_local.app.tui.widgets.plain_area import with_plain_line_ends

if TYPE_CHECKING:
    from pathlib import Path

    from textual.driver import Driver

    from openchat_local.app.settings.model import Settings
    from openchat_local.models.engine.protocol import Engine
    from openchat_local.models.errors import OpenChatError


GRACE_SECONDS = 5.0
# Most browsers take these for themselves, and ask nobody.
_BESIDE_THE_BROWSERS = {"chat.new": "alt+n,ctrl+n", "chat.panel": "alt+t,ctrl+t"}


class ChatApp(KeyedApp):
    """Chats of the data folder `home`, answered by `engine`, or the reason why there is none.

    The engine is the caller's: the app starts to load it and never closes it. `problems` are
    sentences about the settings that the user should read.
    """

    TITLE = "openchat-local"
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+p", "command_palette", "Find a command", priority=True, id="window.palette"),
        Binding("ctrl+q", "quit", "Quit, the prompt is kept", priority=True, id="window.quit"),
    ]

    def __init__(
        self,
        home: Path,
        settings: Settings,
        engine: Engine | OpenChatError,
        problems: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._home = home
        self._settings = settings
        self._engine = engine
        self.problems = [*problems, *self._remap(settings)]
        self.animation_level = "none"  # an animated scroll is twenty paintings of one

    def on_settings_changed(self, message: SettingsChanged) -> None:
        """Let changed settings hold: keys and theme here, the rest is the window's."""
        settings = self._settings = message.settings
        self._remap(settings)
        if isinstance(screen := self.screen_stack[0], ChatScreen):
            screen.keys_changed()
        if isinstance(self.screen, SettingsScreen):
            self.screen.show(settings)
        if settings.tui.theme in self.available_themes:
            self.theme = settings.tui.theme

    def on_terminal_sign(self, message: TerminalSign) -> None:
        """Ring, and have the terminal show a message on the desktop."""
        if self._driver is not None and not self.is_headless:
            self._driver.write(message.text)

    def all_commands(self) -> list[Command]:
        _import_late_screens()
        self._remap(self._settings)
        return self.commands

    def _remap(self, settings: Settings) -> list[str]:
        keys = dict(settings.keys)
        if keys:  # which may be theirs
            _import_late_screens()
        if settings.tui.enter == "newline":
            keys = {"prompt.send": "ctrl+j,alt+enter", "prompt.newline": "enter"} | keys
        if in_browser():
            keys = _BESIDE_THE_BROWSERS | keys
        path = config_path()

        def where(name: str) -> str:
            return place_of(path, ("keys", name))

        return self.remap(keys, where)

    @property
    def fault(self) -> Exception | None:
        """The bug that ended the app, for whoever ran it to report."""
        error = self._exception
        return error.error if isinstance(error, WorkerFailed) else error  # type: ignore[return-value]

    def _handle_exception(self, error: Exception) -> None:
        super()._handle_exception(error)
        # Textual would print every local variable, and so the user's chats.
        self._exit_renderables.clear()

    async def take_in(self, event: events.Key | events.Paste) -> None:
        """A paste into a line is one line, and nothing in it is for the terminal to obey: an
        Input shows what it holds as it is."""
        if isinstance(event, events.Paste) and isinstance(self.focused, Input):
            event.text = one_line(with_plain_line_ends(event.text))
        await super().take_in(event)

    def input_failed(self, error: Exception) -> None:
        """The thread that reads the terminal has ended: nothing can be typed any more."""
        try:
            raise error
        except Exception as fault:  # noqa: BLE001 - Textual reads it from the running handler
            self._handle_exception(fault)

    def get_driver_class(self) -> type[Driver]:
        """Textual's, with our reading of what the terminal sends."""
        driver = super().get_driver_class()
        if sys.platform == "win32":
            from textual.drivers import win32

            # The thread that makes its parser takes it from there and from nowhere else.
            win32.XTermParser = TerminalParser
            return driver
        from textual.drivers.linux_driver import LinuxDriver

        from openchat_local.app.tui.posix_driver import PosixDriver

        return PosixDriver if driver is LinuxDriver else driver

    def get_default_screen(self) -> Screen[None]:
        theme = self._settings.tui.theme
        if theme in self.available_themes:
            self.theme = theme
        else:
            self.problems.append(
                f"The setting tui.theme names {theme!r}, which is no theme; "
                f"there are {', '.join(sorted(self.available_themes))}."
            )
        return ChatScreen(self._home, self._settings, self._engine)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the palette offers: every command of the chat window, from its bindings."""
        return palette_commands(self, screen)

    def watch_theme(self, theme: str) -> None:
        """Keep a theme that the user has chosen in this window."""
        if self.is_running and theme != self._settings.tui.theme:
            self.call_later(self._keep_theme, theme)

    def _keep_theme(self, theme: str) -> None:
        screen = self.screen_stack[0]
        if isinstance(screen, ChatScreen) and theme != self._settings.tui.theme:
            screen.preferences.keep_theme(theme)

    def on_mount(self) -> None:
        """A closed terminal or a polite kill ends the window as Ctrl+Q does."""
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP"):
            # Windows has neither the second signal nor loops that take handlers; nor do
            # loops beside the main thread.
            with suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(getattr(signal, name), self.hung_up)

    def hung_up(self) -> None:
        """Nobody is there any more: end, and keep what there is."""
        # Whoever writes to a terminal that is gone may wait for ever; what is on disk by then
        # is all that there is to be saved.
        watchdog = threading.Timer(GRACE_SECONDS, os._exit, (0,))
        watchdog.daemon = True
        watchdog.start()
        for screen in self.screen_stack:
            if isinstance(screen, ChatScreen):
                screen.training.asks = False  # nobody may be there to answer
        self.call_later(self.after_keys, self.action_quit)

    def action_help_quit(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, ChatScreen):
                screen.interrupt()

    async def action_quit(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, ChatScreen):
                if not await screen.may_shut_down():
                    return
                await screen.shut_down()
        self.exit()


def _import_late_screens() -> None:
    """Those that are imported when they are opened, since the window starts sooner without what
    they need: only a class that was imported tells its keys."""
    from openchat_local.app.tui.screens import arena, versions  # noqa: F401
