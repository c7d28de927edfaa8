"""The installed command as a shell would run it: in a process of its own, or cheaper."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from openchat_local.app.cli.main import main

PROGRAM = [sys.executable, "-m", "openchat_local"]


def run_program(
    *arguments: str | Path, stdin: str | bytes = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the program with `stdin` piped in; its output is read as UTF-8."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        input=data,
        capture_output=True,
        env=os.environ | environment,
        timeout=240,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def run_here(
    *arguments: str | Path, stdin: str | bytes = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """The same in this process: for what a process of its own, whose imports alone take a third
    of a second, would not do otherwise. What it starts in turn has these streams as well."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    assert len(data) <= 4096, "more than a pipe is sure to hold"
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with pytest.MonkeyPatch.context() as patched, _streams(data, out, err):
            for name, value in environment.items():
                patched.setenv(name, value)
            try:
                status = main([*map(str, arguments)])
            except SystemExit as left:  # click, when it completes words
                status = left.code
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess([*PROGRAM, *map(str, arguments)], status, *said)


@contextmanager
def _streams(data: bytes, out: BinaryIO, err: BinaryIO) -> Iterator[None]:
    """The standard streams, down to their numbers: a pipe with `data` in it, and two files."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    before = sys.stdin, sys.stdout, sys.stderr
    for stream in before[1:]:
        stream.flush()
    kept = [os.dup(number) for number in range(3)]
    for number, ours in enumerate((reading, out.fileno(), err.fileno())):
        os.dup2(ours, number)
    os.close(reading)
    files = [
        open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - closed below
        for number, mode in enumerate(("r", "w", "w"))
    ]
    sys.stdin, sys.stdout, sys.stderr = files
    try:
        yield
    finally:
        for file in files:
            file.close()
        sys.stdin, sys.stdout, sys.stderr = before
        for number, theirs in enumerate(kept):
            os.dup2(theirs, number)
            os.close(theirs)
