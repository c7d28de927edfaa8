"""Copying, also where the terminal does not do it.

A program in a terminal copies with the escape sequence OSC 52, which macOS Terminal and
others ignore; the system's own command does it there. Where there is neither, as on a
console of Linux, a file takes the text.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from openchat_local.models.errors import OpenChatError

# What the strictest of the usual terminals takes in one sequence, in bytes of text.
TERMINAL_TAKES = 74_000
FILE_NAME = "copied.txt"
BROWSER = "openchat-local-web"  # a window of `serve --web`, whose clipboard is the browser's
_DEAF_PROGRAMS = frozenset({"Apple_Terminal"})
_DEAF_TERMINALS = frozenset({"linux", "dumb", "vt100", "vt220"})


def copy(text: str, to_terminal: Callable[[str], None], folder: Path) -> str:
    """Copy `text` in whatever way works here; returns in words which one it was.

    `to_terminal` writes OSC 52. The file, in `folder`, is readable by its owner alone.
    Raises OpenChatError when even that cannot be written.
    """
    to_terminal(text)
    if (command := copy_with_system_command(text)) is not None:
        return f"with {command}"
    if terminal_copies(len(text.encode("utf-8", "replace"))):
        return "by the browser" if in_browser() else "by the terminal (OSC 52)"
    path = folder / FILE_NAME
    try:
        remove_copy(folder)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as error:
        raise OpenChatError(
            f"Nothing here takes a copy, and {path} cannot be written ({error.strerror}): "
            "select with the mouse while Shift is held."
        ) from error
    return f"into {path}, since this terminal takes none; the file goes when the window is closed"


def remove_copy(folder: Path) -> None:
    """Remove the file that `copy` may have left."""
    (folder / FILE_NAME).unlink(missing_ok=True)


def terminal_copies(size: int) -> bool:
    """Whether this terminal can be expected to copy so many bytes by OSC 52: there is no
    answer to the sequence that would tell."""
    if in_browser():
        return True
    if size > TERMINAL_TAKES or os.environ.get("TERM_PROGRAM") in _DEAF_PROGRAMS:
        return False
    return os.environ.get("TERM", "") not in _DEAF_TERMINALS


def in_browser() -> bool:
    """Whether the window is shown in one, perhaps on another machine."""
    return os.environ.get("TERM_PROGRAM") == BROWSER


def copy_with_system_command(text: str) -> str | None:
    """The name of the system's command that took `text`; None over SSH, in a browser, or without
    one."""
    command = None if in_browser() else _command()
    if command is None:
        return None
    # `clip` on Windows expects UTF-16; everything else takes UTF-8.
    data = text.encode("utf-16" if os.name == "nt" else "utf-8", "replace")
    try:
        subprocess.run(
            command,
            input=data,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=2,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return command[0]


def _command() -> list[str] | None:
    if sys.platform == "darwin":
        candidates = [["pbcopy"]]
    elif os.name == "nt":
        candidates = [["clip"]]
    else:
        candidates = []
        if os.environ.get("WAYLAND_DISPLAY"):
            candidates.append(["wl-copy"])
        if os.environ.get("DISPLAY"):
            candidates += [["xclip", "-selection", "clipboard"], ["xsel", "-b", "-i"]]
    return next((command for command in candidates if shutil.which(command[0])), None)
