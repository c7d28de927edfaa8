"""How a run of the program ends: exit status and what the user reads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = """
import click
from openchat_local.models.errors import OpenChatError

@click.command()
@click.argument("how")
def boom(how):
    if how == "bug":
        raise ValueError("sevenfold")
    if how == "user":
        raise OpenChatError("The file is green; paint it blue.")
    if how == "escape":
        raise OpenChatError("The model says \\x1b[31mred; choose another.")
    if how == "wait":
        import time
        print("ready", flush=True)
        time.sleep(60)
    if how == "write":
        while True:
            print("line " * 1000)
    if how == "tables":  # by Rich, which would exit with 1
        from openchat_local.app.cli.eval_options import show
        from openchat_local.finetune.evaluation.result import Table
        while True:
            show([Table("Tables", ("a", "b"), [("word " * 9, "1")] * 100)])
"""
RUN = """
import sys
from openchat_local.app.cli.main import COMMANDS, LazyCommand, main
COMMANDS["boom"] = LazyCommand("boom:boom", "A command that fails in many ways.")
sys.exit(main())
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The program with one more command, `boom`."""
    (tmp_path / "boom.py").write_text(COMMANDS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return [sys.executable, "-c", RUN]


def run(program: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=60)


def test_wrong_usage_exits_with_2(program: list[str]) -> None:
    done = run(program, "no-such-command")
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_an_error_is_one_sentence(program: list[str]) -> None:
    done = run(program, "boom", "user")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "openchat-local: The file is green; paint it blue.\n"


def test_an_error_that_quotes_a_file_does_not_steer_the_terminal(program: list[str]) -> None:
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
    leader, follower = pty.openpty()
    assert subprocess.run([*program, "boom", "escape"], stderr=follower, timeout=60).returncode == 1
    os.close(follower)
    assert "says ␛[31mred" in os.read(leader, 4096).decode()
    os.close(leader)


@pytest.mark.skipif(os.name == "nt", reason="the shell of Windows closes no streams")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_an_empty_one(closed: str, home: Path) -> None:
    command = f"{sys.executable} -m openchat_local history list {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (home / "chats.db").read_bytes().startswith(b"SQLite format 3")


def test_debug_adds_the_traceback(program: list[str]) -> None:
    done = run(program, "--debug", "boom", "user")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("openchat-local: The file is green; paint it blue.\n")


def test_a_bug_is_called_a_bug_and_goes_to_the_log(program: list[str], home: Path) -> None:
    done = run(program, "boom", "bug")
    log = home / "openchat-local.log"
    assert done.returncode == 1
    assert done.stderr == (
        "openchat-local: This is a bug in openchat-local, sorry (ValueError: sevenfold); "
        f"the details are in {log}.\n"
    )
    assert 'raise ValueError("sevenfold")' in log.read_text()
    if os.name != "nt":
        assert log.stat().st_mode & 0o777 == 0o600


def test_a_bug_is_told_even_when_the_log_cannot_be_written(program: list[str], home: Path) -> None:
    home.write_text("not a folder")
    done = run(program, "boom", "bug")
    assert done.returncode == 1
    assert "add --debug for the details" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_an_interrupt_exits_with_130_and_no_traceback(program: list[str]) -> None:
    child = subprocess.Popen(
        [*program, "boom", "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert errors.strip() == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows reports a closed pipe as EINVAL")
@pytest.mark.parametrize("what", ["write", "tables"])
def test_a_closed_pipe_ends_the_run_quietly(program: list[str], what: str) -> None:
    child = subprocess.Popen(
        [*program, "boom", what], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == b""
    assert child.wait(timeout=30) == 141


def test_without_a_command_the_options_are_those_of_chat(program: list[str]) -> None:
    done = run(program, "--no-such-option")
    assert done.returncode == 2
    assert "openchat-local chat" in done.stderr


def test_without_a_terminal_there_is_no_window() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "openchat_local"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "`openchat-local ask`" in done.stderr
    assert done.stderr.count("\n") == 1


def test_any_character_can_be_written_to_a_pipe_of_any_encoding(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text('system_prompt = "汉字 🎉"\n', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "openchat_local", "config", "show"],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert b'system_prompt = "?? ?"' in done.stdout
