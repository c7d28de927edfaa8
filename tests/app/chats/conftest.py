from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from openchat_local.app.chats import ChatStore


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    with_chats = ChatStore.open(home)
    yield with_chats
    with_chats.close()


class Child:
    """Another instance of the program: a real process that runs `code` on the same home.

    `code` finds an open `store` and writes lines to its standard output; it ends when
    it is killed, or with its last statement.
    """

    def __init__(self, home: Path, code: str) -> None:
        prelude = (
            "import sys\nfrom pathlib import Path\n"
            "from openchat_local.app.chats import ChatStore\n"
            f"store = ChatStore.open(Path({str(home)!r}))\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", prelude + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    @property
    def stdin(self) -> IO[str]:
        assert self.process.stdin is not None
        return self.process.stdin

    def kill(self) -> None:
        """SIGKILL (TerminateProcess on Windows): no handler and no `finally` runs."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def other_instance(home: Path) -> Iterator[Callable[[str], Child]]:
    children: list[Child] = []

    def start(code: str) -> Child:
        children.append(Child(home, code))
        return children[-1]

    yield start
    for child in children:
        child.close()
