"""Commands whose work is done in a process of its own: native code may abort there.

llama.cpp ends its whole process over a model file that lies, and so may whatever computes. The
command starts itself once more, with the same arguments and streams, waits, and has a sentence
to say when that process was killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.child_process import (
    LOOKS_OF_TRAINING,
    how_it_ended,
    python_module,
    sharing_cores,
)

# Where the inner process writes native code's last words, and whose death it does not outlive.
_LAST_WORDS = "OPENCHAT_LOCAL_LAST_WORDS"
_PARENT = "OPENCHAT_LOCAL_WALL_OF"
_ARGUMENTS = f"{__name__}.arguments"
_LEAVING_SECONDS = 5.0


class WalledCommand(click.Command):
    """A command that runs in a child process."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = [*args]  # click keeps what became of them only
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        parent, last_words = (os.environ.pop(name, None) for name in (_PARENT, _LAST_WORDS))
        if parent is not None and last_words is not None:
            _move_in(int(parent), Path(last_words))
            return super().invoke(ctx)
        words = ctx.command_path.split()[1:]
        return ctx.exit(_run([*words, *ctx.meta[_ARGUMENTS]], " ".join(words)))


def _run(arguments: list[str], called: str) -> int:
    """The exit status of this program's own process with these arguments."""
    with tempfile.TemporaryDirectory(prefix="openchat-local-wall-") as folder:
        last_words = Path(folder) / "last-words"
        last_words.touch()
        process = subprocess.Popen(
            python_module("openchat_local", *arguments),
            env=sharing_cores(LOOKS_OF_TRAINING)
            | {_PARENT: str(os.getpid()), _LAST_WORDS: str(last_words)},
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:  # at a terminal the child has had it as well
            _end(process)
            raise
        if 0 <= code < 2**30:  # Windows' numbers of crashes are beyond
            return code
        with last_words.open("rb") as said:
            how = how_it_ended(code, said)
    raise OpenChatError(
        f"{called} ended in mid-work ({how}): if there was memory enough, the model's file may "
        "be damaged; fetch it again, or use another conversion of the model."
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it tidy up, but not for ever."""
    try:
        process.wait(_LEAVING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _move_in(parent: int, last_words: Path) -> None:
    """In the child: native code's fd 2 becomes a file, Python's stderr stays what it was."""
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    old = sys.stderr
    sys.stderr = open(  # noqa: SIM115 - lives as long as the process
        os.dup(2), "w", encoding=old.encoding, errors=old.errors, buffering=1
    )
    descriptor = os.open(last_words, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    # As Ctrl-C would, so that what is temporary is removed.
    if os.name == "nt":
        import _thread

        import psutil

        with suppress(psutil.NoSuchProcess):
            psutil.Process(parent).wait()
        _thread.interrupt_main()
    else:
        while os.getppid() == parent:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)  # this one also ends a write that blocks
    time.sleep(_LEAVING_SECONDS)
    os._exit(1)
