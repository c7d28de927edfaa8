"""What the command palette offers, made from the bindings in force."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.app import App, SystemCommand

from openchat_local.app.tui.key_lines import spoken
from openchat_local.app.tui.widgets.prompt import Prompt

if TYPE_CHECKING:
    from textual.dom import DOMNode
    from textual.screen import Screen

    from openchat_local.app.tui.keys import Command, KeyedApp


DONE_BY_OTHERS = frozenset({
    "message.regenerate", "message.continue", "message.copy", "message.step-up",
    "message.step-down", "message.fold", "find.above", "find.below", "window.palette",
})  # fmt: skip
"""Keys of a place: from the palette, where no message is selected, they are what another command
does, or nothing."""


def palette_commands(app: KeyedApp, screen: Screen[Any]) -> Iterator[SystemCommand]:
    """The commands of `screen` and of what is on it; those for writing are keys alone."""
    for command in app.commands:
        target = _target(app, screen, command)
        if target is not None and command.id not in DONE_BY_OTHERS:
            run = partial(app.run_action, command.action, target)
            yield SystemCommand(command.description, spoken(command), run)
    yield SystemCommand("Theme", "Choose the colours; the choice is kept", app.search_themes)


def _target(app: KeyedApp, screen: Screen[Any], command: Command) -> DOMNode | None:
    """The app, the screen or the widget that the command belongs to, if it is there."""
    if issubclass(command.owner, App):
        return app
    if isinstance(screen, command.owner):
        return screen
    if issubclass(command.owner, Prompt):
        return None
    return next((node for node in screen.walk_children() if type(node) is command.owner), None)
