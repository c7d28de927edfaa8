"""Tab: commands, options, and the names that are on this machine; and what a typing error gets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import run_program


def completed(*words: str, shell: str = "zsh") -> list[str]:
    """What the shell is offered for the last of `words`, types and helps left out."""
    typed = " ".join(["openchat-local", *words])
    done = run_program(
        _OPENCHAT_LOCAL_COMPLETE=f"{shell}_complete", COMP_WORDS=typed, COMP_CWORD=str(len(words))
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    return lines[1::3] if shell == "zsh" else [line.partition(",")[2] for line in lines]


def test_commands_and_options_are_completed() -> None:
    assert completed("mo") == ["models"]
    assert completed("models", "ver") == ["verify"]
    assert completed("--off") == ["--offline"]
    assert completed("ask", "--tempe") == ["--temperature"]
    assert completed("completion", "") == ["bash", "zsh", "fish"]


def test_options_without_a_command_are_those_of_chat() -> None:
    assert completed("-m", "start") == ["starter"]


def test_what_can_be_fetched_is_completed() -> None:
    names = completed("models", "pull", "openchat-3.")
    assert {"openchat-3.5", "openchat-3.6"} <= {*names}


def test_models_adapters_and_conditions_are_completed(tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.Q8_0.gguf", openchat_vocabulary(), name="tiny")
    assert run_program("models", "add", model, "--name", "tiny").returncode == 0
    adapter = write_random_adapter(tmp_path / "mine.gguf", model)
    assert run_program("adapters", "add", adapter, "--name", "mine").returncode == 0
    assert completed("chat", "-m", "") == ["starter", "tiny"]
    assert completed("models", "info", "ti") == ["tiny"]
    assert completed("ask", "--adapter", "m") == ["mine"]
    assert completed("finetune", "evaluate", "--adapter", "m") == ["mine"]
    assert completed("finetune", "train", "-m", "ti") == ["tiny"]
    assert completed("adapters", "info", "") == ["mine"]
    assert "GPT4 Correct" in completed("chat", "--condition", "gpt4")
    # bash inserts it as it stands.
    assert "GPT4\\ Correct" in completed("chat", "--condition", "gpt4", shell="bash")


def test_chats_are_completed_by_id(home: Path) -> None:
    assert completed("history", "show", "") == []
    assert not home.exists()  # a press of Tab makes nothing
    home.mkdir()
    store = ChatStore.open(home)
    try:
        chat = store.new_chat(title="About rivers")
    finally:
        store.close()
    assert completed("history", "show", "") == [chat.short_id]


def test_a_home_that_cannot_be_read_has_no_suggestions(home: Path) -> None:
    home.mkdir()
    (home / "chats.db").write_text("no database")
    assert completed("history", "show", "") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_the_script_works_in_bash(tmp_path: Path) -> None:
    script = tmp_path / "completions"
    script.write_text(run_program("completion", "bash").stdout)
    (tmp_path / "openchat-local").write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m openchat_local "$@"\n'
    )
    (tmp_path / "openchat-local").chmod(0o755)
    typed = f"""
        source {script}
        COMP_WORDS=(openchat-local history ex); COMP_CWORD=2
        _openchat_local_completion openchat-local
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", typed], env=os.environ | {"PATH": path}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["export"], done.stderr


def test_the_shell_is_that_of_the_environment() -> None:
    assert "compdef" in run_program("completion", SHELL="/usr/bin/zsh").stdout
    done = run_program("completion", SHELL="/bin/tcsh")
    assert done.returncode == 1
    assert "openchat-local completion bash" in done.stderr


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["modles"], "Did you mean 'models'?"),
        (["models", "lits"], "Did you mean 'list'?"),
        (["Why is the sky blue?"], "openchat-local ask 'Why is the sky blue?'"),
        (["my model.gguf"], "openchat-local chat -m 'my model.gguf'"),
        (["zzz"], "There are chat, ask, history"),
    ],
)
def test_a_mistyped_command_gets_a_suggestion(typed: list[str], said: str) -> None:
    done = run_program(*typed)
    assert done.returncode == 2
    assert said in done.stderr
