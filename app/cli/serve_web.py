"""`serve --web`: what opens the chat window in a browser."""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from openchat_local.app.server.running import Place
    from openchat_local.app.server.web.sessions import Sessions
    from openchat_local.app.settings.model import Settings

PACKAGES = ("openai", "textual_serve", "websockets")


@dataclass(frozen=True, slots=True)
class Web:
    """What opens windows; where these ask the server for replies; and the digest of their own
    key, if the server wants one."""

    windows: Sessions
    inner: Place
    keys: tuple[bytes, ...]


def windows_of(
    settings: Settings,
    overrides: Mapping[str, Any],
    keys: tuple[bytes, ...],
    place: Place,
    log: Callable[[str], None],
    *,
    force: bool,
) -> Web:
    """What opens windows with the settings that `serve` was given, for whoever shows the
    home's own key: one of the `keys` of the server at `place` gives replies, and no chats or
    files. Raises OpenChatError."""
    from openchat_local.app.engine import SHARED_KEY_VARIABLE, SHARED_VARIABLE
    from openchat_local.app.paths import ensure_home, web_key_path
    from openchat_local.app.server.guard import digest_of
    from openchat_local.app.server.running import within
    from openchat_local.app.server.web.key import web_key
    from openchat_local.app.server.web.sessions import Sessions
    from openchat_local.models.system.child_process import python_module

    ensure_home()
    own, secret = digest_of(web_key(web_key_path())), secrets.token_urlsafe(24) if keys else ""
    inner = within(place)
    environment = {SHARED_VARIABLE: inner.url, SHARED_KEY_VARIABLE: secret}
    same = {**overrides, "model": settings.model}
    command = python_module("openchat_local", "chat", *flags_of(same, force=force))
    windows = Sessions(command, own, environment, log=log)
    return Web(windows, inner, (digest_of(secret),) if secret else ())


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
