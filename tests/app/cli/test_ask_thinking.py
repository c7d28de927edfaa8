"""What a model thinks is beside the reply, not in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.app.cli.main import main
from support.scripted import SWITCHES, THINKS, write_scripted

PIECES = ["<think>", "\nThe", " user", " asks", ".\n", "</think>", "\n\nFour", " it", " is"]


@pytest.fixture
def thinker(tmp_path: Path) -> str:
    return str(write_scripted(tmp_path / "thinker.gguf", PIECES, SWITCHES, otherwise=["Four!"]))


Ask = Callable[..., tuple[str, str]]


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str]) -> Ask:
    """A command in this process, which answers: what it wrote."""

    def ask(*arguments: str) -> tuple[str, str]:
        status = main(["ask", "--temperature", "0", *arguments])
        out, said = capfd.readouterr()
        assert status == 0, said
        return out, said

    return ask


def test_a_pipe_gets_the_answer_and_the_chat_keeps_all(thinker: str, home: Path, ask: Ask) -> None:
    out, said = ask("-m", thinker, "-v", "2+2?")
    assert out == "Four it is\n"
    assert "reply 10 tokens at" in said
    assert ", 6 of them thoughts in" in said
    with closing(ChatStore.open(home)) as store:
        chat = store.latest_chat()
        assert chat is not None
        reply = store.branch(chat.id)[-1]
    assert reply.content == "".join(PIECES)
    assert reply.usage is not None
    assert reply.usage["reasoning_tokens"] == 6
    assert ask("-m", thinker, "--thinking", "2+2?")[0] == "".join(PIECES) + "\n"


def test_a_chat_remembers_that_it_is_asked_for_no_thoughts(thinker: str, ask: Ask) -> None:
    assert ask("-m", thinker, "--no-think", "2+2?")[0] == "Four!\n"
    assert ask("-c", "--thinking", "And?")[0] == "Four!\n"


def test_what_changes_nothing_is_said_and_that_there_is_no_answer(tmp_path: Path, ask: Ask) -> None:
    fixed = str(write_scripted(tmp_path / "fixed.gguf", PIECES, THINKS))
    out, said = ask("-m", fixed, "--no-think", "--max-tokens", "3", "2+2?")
    assert out == ""
    assert "--no-think changes nothing: this model's template cannot be asked" in said
    assert "The reply stopped at 3 tokens, still thinking: ask -c continues the chat" in said
