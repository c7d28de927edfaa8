"""Whether standard input is meant for a command that has its prompt already.

In `git diff | openchat-local ask "Explain."` it is. In `while read line; do openchat-local
ask "$line"; done` it is not: what would be read are the loop's own lines. Nor is it where a
pipe was merely inherited and nobody will ever write to it or close it.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

PATIENCE = 5.0
"""Seconds for which a pipe may be silent before it is left alone."""

SHARED = (
    "Standard input is also that of the shell that runs this command, so it was left to it; "
    "- reads it."
)
SILENT = (
    f"Nothing came on standard input for {PATIENCE:.0f} seconds, so it was not waited for; - does."
)

_SHELLS = frozenset({"ash", "bash", "busybox", "dash", "fish", "ksh", "mksh", "sh", "zsh"})
_STDIN = 0


def unread_because() -> str | None:
    """Why standard input is to be left alone beside a prompt: a sentence for the user, empty
    where there is nothing in it; None where it is to be read to its end."""
    try:
        status = os.fstat(_STDIN)
    except OSError:  # closed
        return ""
    if stat.S_ISREG(status.st_mode):
        return _unread_file(status.st_size)
    if not (stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)):
        return ""  # a terminal, /dev/null
    if _is_a_shells_own(status):
        return SHARED
    return None if _anything_comes(PATIENCE) else SILENT


def _unread_file(size: int) -> str | None:
    # A loop that reads a file line by line has moved on in it; what is redirected for one
    # command is at its beginning.
    place = os.lseek(_STDIN, 0, os.SEEK_CUR)
    if place == 0:
        return None
    return SHARED if place < size else ""


def _is_a_shells_own(status: os.stat_result) -> bool:
    """Whether a shell above this process, in a loop or a script, reads from the same pipe.

    Only Linux can tell; elsewhere a pipe is always meant for the command.
    """
    parent = os.getppid()
    while parent:
        folder = Path("/proc") / str(parent)
        try:
            if not os.path.samestat((folder / "fd" / "0").stat(), status):
                return False
            if (folder / "comm").read_text("utf-8", "replace").strip() in _SHELLS:
                return True
            # After the name, which is in brackets and may hold anything: state, parent.
            facts = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            parent = int(facts[1])
        except (OSError, ValueError, IndexError):
            return False
    return False


if sys.platform == "win32":

    def _anything_comes(seconds: float) -> bool:
        """Whether there is something to read, or an end, within this time."""
        # `select` takes nothing but sockets there.
        import _winapi
        import msvcrt

        deadline = time.monotonic() + seconds
        while True:
            try:
                if _winapi.PeekNamedPipe(msvcrt.get_osfhandle(_STDIN), 0)[0]:
                    return True
            except OSError:  # its end
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)

else:

    def _anything_comes(seconds: float) -> bool:
        """Whether there is something to read, or an end, within this time."""
        import select

        return bool(select.select([_STDIN], [], [], seconds)[0])
