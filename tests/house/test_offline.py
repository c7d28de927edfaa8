"""Nothing leaves the machine: the whole chat path works where there is no network at all."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from support.programs import PROGRAM


def isolated_command() -> list[str]:
    """A prefix that runs a command in a network namespace that holds nothing, not even lo."""
    command = ["unshare", "--map-root-user", "--net"]
    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("needs Linux network namespaces")
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system forbids network namespaces to users")
    return command


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
