"""The command that installs a package where this program runs from."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROJECT = "openchat-local"


def install_command(*arguments: str) -> str:
    """What a person writes to have pip install `arguments`, requirements and options, for
    this Python, quoted for their shell. pipx and uv keep a program's packages to themselves."""
    return _quoted(installer(*arguments))


def installer(*arguments: str) -> list[str]:
    """The same as a command to run."""
    return [*_installer(Path(sys.prefix)), *arguments]


def _installer(prefix: Path) -> list[str]:
    if (prefix / "pipx_metadata.json").is_file():
        return ["pipx", "runpip", PROJECT, "install"]
    if (prefix / "uv-receipt.toml").is_file():
        return ["uv", "pip", "install", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install"]


def _quoted(command: Sequence[str]) -> str:
    return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)
