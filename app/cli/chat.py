"""`chat`: the chat window."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.options import (
    engine_options,
    model_options,
    refuse_local,
    sampling_options,
    take_overrides,
)
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from openchat_local.app.settings.model import Settings
    from openchat_local.models.engine.connection import EngineChild
    from openchat_local.models.engine.protocol import Engine

_DRIVER = "TEXTUAL_DRIVER"  # Textual's own variable: what it names needs no terminal


@click.command()
@click.option("-s", "--system", metavar="TEXT", help="System prompt of new chats.")
@model_options
@engine_options
@sampling_options
def chat(system: str | None, **flags: Any) -> None:
    """Open the chat window (the default command)."""
    from openchat_local.models.engine.connection import EngineChild

    if not os.environ.get(_DRIVER):
        _check_terminal()
    # First of all: the child's imports then run beside Textual's, on another core.
    child = EngineChild() if flags["engine"] is None else None
    force = flags.pop("force")
    try:
        _open_window(child, take_overrides(flags) | {"system_prompt": system}, force=force)
    finally:
        if child is not None:
            child.close()


def _check_terminal() -> None:
    """Raise OpenChatError where no terminal can show the window."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise OpenChatError(
            "The chat window needs a terminal; in a pipe or a script use `openchat-local ask`."
        )
    if os.environ.get("TERM") in ("dumb", "unknown"):
        raise OpenChatError(
            f"This terminal cannot show a window (TERM={os.environ['TERM']}): "
            "use `openchat-local ask`, or set TERM if it can."
        )
    encoding = sys.stderr.encoding or ""
    if encoding.lower().replace("-", "") != "utf8":
        raise OpenChatError(
            f"The chat window needs a terminal in UTF-8, and the locale says {encoding}: "
            "set LANG to one that ends in UTF-8, for example C.UTF-8."
        )


def _open_window(child: EngineChild | None, overrides: dict[str, Any], *, force: bool) -> None:
    from openchat_local.app.engine import engine_for
    from openchat_local.app.paths import ensure_home
    from openchat_local.app.settings.model import load_settings_forgivingly

    # A wrong line in the settings file is told in the window, which shows the chats all the same.
    settings, problems = load_settings_forgivingly(overrides)
    refuse_local(settings, overrides | {"force": force})
    home = ensure_home()
    try:
        engine = engine_for(settings, child, force=force)
    except OpenChatError as problem:
        # The window opens all the same, since the chats can still be read.
        _run(home, settings, problem, problems)
        return
    engine.start()
    try:
        _run(home, settings, engine, problems)
    finally:
        engine.close()


def _run(
    home: Path, settings: Settings, engine: Engine | OpenChatError, problems: Sequence[str]
) -> None:
    from openchat_local.app.tui.app import ChatApp

    app = ChatApp(home, settings, engine, problems)
    app.run()
    if app.fault is not None:
        raise app.fault
