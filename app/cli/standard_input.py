"""The prompt of a command, and whether standard input is a part of it.

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

import click

from openchat_local.models.errors import OpenChatError

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


def whole_prompt(given: tuple[str, ...]) -> str:
    """The prompt among the arguments, and what is on standard input, if that is meant.

    Raises OpenChatError for what is no text, click.UsageError where there is no prompt.
    """
    texts = [each for each in given if each != "-"]
    if len(texts) > 1 or len(given) - len(texts) > 1:
        raise click.UsageError(
            "There is more than one prompt: put quotation marks around it if it has spaces."
        )
    parts = texts or [""]
    if not parts[0].isascii() and any("\udc80" <= c <= "\udcff" for c in parts[0]):
        raise OpenChatError(
            "The prompt is not UTF-8 text: convert it, for example with iconv, and try again."
        )
    if _reads_stdin(asked_to="-" in given, has_prompt=bool(parts[0].strip())):
        data = sys.stdin.buffer.read()
        try:
            parts.append(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise OpenChatError(
                f"Standard input is not UTF-8 text (byte {error.start + 1:,} is "
                f"0x{data[error.start]:02x}): convert it, for example with iconv."
            ) from error
    text = "\n\n".join(part.strip("\n") for part in parts if part.strip())
    if not text:
        raise click.UsageError("There is no prompt: give one as an argument or on standard input.")
    return text


def _reads_stdin(*, asked_to: bool, has_prompt: bool) -> bool:
    if sys.stdin is None:
        return False
    if asked_to:
        return True
    if not has_prompt:
        return not sys.stdin.isatty()
    reason = unread_because()
    if reason:
        click.echo(reason, err=True)
    return reason is None


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
