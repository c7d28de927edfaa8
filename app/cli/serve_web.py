"""`serve --web`: what opens the chat window in a browser."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from openchat_local.app.server.running import Place
    from openchat_local.app.server.web.sessions import Sessions

PACKAGES = ("textual_serve", "websockets")


def windows_of(
    overrides: Mapping[str, Any], keys: tuple[bytes, ...], log: Callable[[str], None],
    *, force: bool,
) -> Sessions:  # fmt: skip
    """What opens windows with the settings that `serve` was given, for whoever shows one of the
    `keys` or that of the home. Raises OpenChatError."""
    from openchat_local.app.paths import ensure_home, web_key_path
    from openchat_local.app.server.guard import digest_of
    from openchat_local.app.server.web.key import web_key
    from openchat_local.app.server.web.sessions import Sessions
    from openchat_local.models.system.child_process import python_module

    ensure_home()
    own = digest_of(web_key(web_key_path()))
    command = python_module("openchat_local", "chat", *flags_of(overrides, force=force))
    return Sessions(command, (own, *keys), log=log)


def flags_of(overrides: Mapping[str, Any], *, force: bool) -> list[str]:
    """The flags of `chat` that say the same as what `take_overrides` has taken."""
    given = dict(overrides)
    given |= given.pop("sampling", {})
    flags = [
        f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None
    ]
    return [*flags, "--force"] if force else flags


def announce_window(place: Place, *, anywhere: bool) -> None:
    """Say where the window is. Its key is shown to a person alone: what a service says is kept
    where others may read it."""
    from openchat_local.app.paths import web_key_path
    from openchat_local.app.server.web.key import web_key

    url = place.url
    if anywhere:
        scheme, _, address = url.partition("://")
        url = f"{scheme}://{socket.gethostname()}:{address.rpartition(':')[2]}"
    if sys.stdout.isatty():
        click.echo(f"The window is at {url}/#key={web_key(web_key_path())}")
    else:
        click.echo(f"The window is at {url}/ and its key in {web_key_path()}")
    sys.stdout.flush()
