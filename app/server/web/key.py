"""The key of the window in a browser.

Whoever opens the window reads the chats. On a machine with several users each of them reaches
127.0.0.1, so that the window wants a key there, too: a file that its owner alone can read.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from openchat_local.app.server.guard import LEAST_KEY
from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.atomic import replacing

_KEY = re.compile(rf"[A-Za-z0-9_-]{{{LEAST_KEY},}}")  # stands in an address as it is


def web_key(path: Path) -> str:
    """What is in the file `path`, which is made where there is none: so the address of the
    window stays the same. Raises OpenChatError."""
    try:
        if not path.exists():
            with suppress(FileExistsError), replacing(path, new=True) as part:
                descriptor = os.open(part, os.O_WRONLY | os.O_CREAT, 0o600)
                with open(descriptor, "w", encoding="ascii") as file:
                    file.write(secrets.token_urlsafe(24) + "\n")
        key = path.read_text("utf-8", "replace").strip()
        shown_to_others = os.name != "nt" and path.stat().st_mode & 0o077
    except OSError as error:
        raise OpenChatError(
            f"The key of the window in a browser, {path}, cannot be kept ({error.strerror}): make "
            "the folder writable."
        ) from error
    if shown_to_others or not _KEY.fullmatch(key):
        problem = "can be read by others" if shown_to_others else "holds no key"
        raise OpenChatError(
            f"{path} {problem}: remove it, and the next `serve --web` makes another."
        )
    return key
