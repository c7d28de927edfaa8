"""`finetune --from-chats` as a person runs it: rated chats in, an adapter and its rows out."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.app.cli.main import main
from openchat_local.app.engine import installed_adapters
from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import run_program

SHORT = ("--steps", "1", "--tokens-per-step", "128", "--max-length", "64", "--backend", "mlx")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-openchat-3.5.gguf"
    return write_model(
        path, openchat_vocabulary("control"), name="tiny openchat-3.5", context=256, blocks=1,
        embedding=32, heads=2, kv_heads=1, feed_forward=64,
    )  # fmt: skip


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    store = ChatStore.open(home)
    yield store
    store.close()


def rate(store: ChatStore, *ratings: int, words: str = "answer", private: bool = False) -> None:
    """A chat for each rating."""
    for number, rating in enumerate(ratings):
        chat = store.new_chat(private=private)
        prompt = store.add_message(chat.id, None, "user", f"{words}, question {number}?")
        reply = store.add_message(chat.id, prompt.id, "assistant", f"{words} {number}")
        store.rate(reply.id, rating)


def finetune(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    status = main(["finetune", *map(str, arguments)])
    return status, capsys.readouterr().err


def test_rated_chats_become_an_adapter_and_their_rows_go_with_the_run(
    store: ChatStore, home: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rate(store, 1, 1, 1, 1, 1, -1, -1, -1)
    rate(store, 1, words="secret", private=True)
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps({"prompt": "Hi", "completion": "Yo", "class": "human"}) + "\n")
    done = run_program(
        "finetune", "--from-chats", more, "--since", "3", "--name", "mine", "-m", model, *SHORT
    )
    assert done.returncode == 0, done.stderr
    assert "1 private chat is never learned from." in done.stderr
    rows = home / "runs" / "mine" / "data" / "chats.jsonl"
    assert str(rows) in done.stderr
    if os.name != "nt":
        assert stat.S_IMODE(rows.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    classes = [line["class"] for line in lines]
    assert sorted(classes) == ["expert"] * 5 + ["human"] + ["sub-optimal"] * 3
    assert "secret" not in rows.read_text("utf-8")
    card = installed_adapters().facts("mine")["classes"]
    assert [(rule["name"], rule["condition"]) for rule in card] == [
        ("expert", "GPT4 Correct"), ("human", "GPT4 Correct"), ("sub-optimal", "GPT3"),
    ]  # fmt: skip
    assert main(["adapters", "remove", "mine", "--yes"]) == 0
    assert not (home / "runs" / "mine").exists()


def test_what_cannot_be_is_refused_before_anything_is_written(
    store: ChatStore, home: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chats = ("--from-chats", "-m", model, *SHORT)
    assert "There is no reply to learn from yet" in finetune(capsys, *chats)[1]
    rate(store, 1, 1, -1)
    status, err = finetune(capsys, *chats)
    assert (status, "4 are needed: rate or edit 2 more" in err) == (1, True)
    rate(store, 1, 1, -1, -1, -1, words="more")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "Hi"}\n')
    status, err = finetune(capsys, *chats, bad)
    assert (status, f"{bad}, line 1, completion: is missing" in err) == (1, True)
    assert "Name one FILE" in finetune(capsys, bad, bad)[1]
    assert "--tag says which chats" in finetune(capsys, bad, "--tag", "work")[1]
    assert "or a run to --resume" in finetune(capsys, *chats, "--resume", "mine")[1]
    assert "No chat's id begins" in finetune(capsys, *chats, "--chat", "nowhere")[1]
    assert not (home / "runs").exists()
