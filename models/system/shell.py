"""Commands that the program suggests, as a shell takes them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path


def quoted(argument: str | Path) -> str:
    """One argument, in quotes where it needs them."""
    text = str(argument)
    return subprocess.list2cmdline([text]) if sys.platform == "win32" else shlex.quote(text)


def command(*arguments: str | Path) -> str:
    """A command line of this program."""
    return " ".join(["openchat-local", *map(quoted, arguments)])
