"""Copying, also where the terminal does not do it.

A program in a terminal copies with the escape sequence OSC 52, which macOS Terminal and
others ignore; the system's own command does it there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def copy_with_system_command(text: str) -> bool:
    """Whether a command of this system took `text`; False over SSH or without one."""
    command = _command()
    if command is None:
        return False
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
        return False
    return True


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
