"""What every child process of this program has in common, on both of its sides."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, BinaryIO

_SIGKILL = 9  # Windows has no such signal, nor a name for it


def own_process_group() -> dict[str, Any]:
    """For `Popen`: keeps the terminal's Ctrl-C from the child before it can ignore it itself."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


# How often a thread looks whether the others are there before it goes to sleep. libgomp's own
# number, 300,000, is some milliseconds, in which it keeps a core from the very thread that all
# wait for. Fewer looks make it a better neighbour, and cost where nothing else runs; both was
# measured (`make bench ARGS=busy`). A token has hundreds of short waits, a training step fewer.
LOOKS_OF_THE_ENGINE, LOOKS_OF_TRAINING = 2000, 600


def sharing_cores(looks: int) -> dict[str, str]:
    """The environment of a child that computes: ours, but that OpenMP's threads sleep after so
    many `looks` while they wait for each other. What the user has set of it stands."""
    own = dict(os.environ)
    if not own.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
        # libgomp (GCC's: llama.cpp, PyTorch on Linux), and LLVM's and Intel's, in milliseconds.
        own |= {"GOMP_SPINCOUNT": str(looks), "KMP_BLOCKTIME": "1"}
    return own


def python_module(module: str, *arguments: str) -> list[str]:
    """A command that runs `module`; -P keeps a numpy.py in the working directory out of it."""
    return [sys.executable, "-P", "-m", module, *arguments]


def take_over_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """In the child: the pipes to the parent, moved away from fds 0 and 1, where native code
    reads and writes. What goes to fd 1 afterwards lands on stderr."""
    frames_in = os.fdopen(os.dup(0), "rb")
    frames_out = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return frames_in, frames_out


def how_it_ended(code: int, stderr: BinaryIO, since: int = 0) -> str:
    """ "killed by signal 9" or "exit code 1", and the last line of what it wrote to stderr
    after the first `since` bytes. Nobody writes why they were killed from outside."""
    if code == -_SIGKILL:
        return f"killed by signal {-code}"
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    size = os.fstat(stderr.fileno()).st_size
    stderr.seek(max(since, size - 4096))
    lines = stderr.read().decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{how}: {last[:200]}" if last else how
