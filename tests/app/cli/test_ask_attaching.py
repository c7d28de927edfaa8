"""`ask` with files: `@path` in the prompt, and --attach."""

from __future__ import annotations

from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.app.cli.main import main
from support import documents as made
from support.programs import run_here


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my report.pdf").write_bytes(made.pdf(["Marta keeps 🐐.", "第二页。"]))
    (tmp_path / "locked.pdf").write_bytes(made.pdf(["x"], encrypted=True))
    (tmp_path / "a.txt").write_text("text\n")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "seals.md").write_text("Eleven seals.\n")
    return tmp_path


def test_what_goes_along_is_named_and_sent_and_what_is_piped_in_names_nothing(home: Path) -> None:
    done = run_here(
        *("ask", 'Who? @"my report.pdf":1 @gone.txt', "--attach", "notes", "--dry-run"),
        stdin="a line of a diff with @a.txt\n",
    )
    assert done.returncode == 0, done.stderr
    named = done.stderr.splitlines()
    assert named[0] == "@gone.txt is not there, so it stays a word of the prompt."
    assert named[1].startswith("@my report.pdf:1  PDF, page 1 of 2, ")
    assert named[1].endswith(" tokens")
    assert named[2].startswith("@notes/  all of its 1 file, ")
    assert named[3] == "  notes/seals.md (line 1; found in notes/), 13 characters"
    assert done.stdout == (
        'Who? @"my report.pdf":1 @gone.txt\n\na line of a diff with @a.txt\n\n'
        "File my report.pdf:1 (PDF, page 1 of 2):\n```\n[page 1]\nMarta keeps 🐐.\n```\n\n"
        "File notes/seals.md (line 1; found in notes/):\n```md\nEleven seals.\n```\n"
    )
    done = run_here("ask", "x", "-f", "a.txt", "--max-tokens", "1")
    assert done.returncode == 0, done.stderr
    store = ChatStore.open(home)
    try:
        (chat,) = store.chats()
        assert store.branch(chat.id)[0].content == "x\n\nFile a.txt:\n```txt\ntext\n```"
    finally:
        store.close()


def test_a_document_that_cannot_be_had_ends_it_before_a_model_is_loaded(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    no_model = ("-m", "none.gguf")
    for arguments, says in (
        (["Sum up @locked.pdf"], "@locked.pdf is encrypted"),
        (["x", "-f", "locked.pdf"], "locked.pdf is encrypted"),
        (["x", "-f", "gone.txt"], "--attach gone.txt: there is no such file or folder."),
    ):
        assert main(["ask", *arguments, *no_model]) == 1
        assert says in capsys.readouterr().err
    store = ChatStore.open(home)
    try:
        assert store.chats() == []
    finally:
        store.close()
