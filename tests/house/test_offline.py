"""Nothing leaves the machine: the whole chat path works where there is no network at all."""

from __future__ import annotations

import subprocess
import sys

from support.network import isolated_command
from support.programs import PROGRAM


def test_the_namespace_really_has_no_network() -> None:
    probe = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    done = subprocess.run(
        [*isolated_command(), sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "unreachable" in done.stderr


def test_ask_answers_without_a_network_its_engine_child_included() -> None:
    done = subprocess.run(
        [*isolated_command(), *PROGRAM, "ask", "Hello!", "--max-tokens", "5", "-v"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "reply" in done.stderr
