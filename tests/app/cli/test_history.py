"""`history`, as a person types it."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.app.cli.main import main

NASTY = "\x1b]0;owned\x07\x1b[2J\u202e\x9b"


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    with_chats = ChatStore.open(home)
    yield with_chats
    with_chats.close()


@pytest.fixture
def rome(store: ChatStore) -> str:
    chat = store.new_chat(title="Rome", tags=["travel"])
    prompt = store.add_message(chat.id, None, "user", "Where is the Colosseum?")
    store.add_message(chat.id, prompt.id, "assistant", "In Rome, Italy.")
    return chat.id


def history(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["history", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_list(capsys: pytest.CaptureFixture[str], store: ChatStore, rome: str) -> None:
    store.update_chat(store.new_chat(title="Pinned", private=True).id, pinned=True)
    status, out, _ = history(capsys, "list")
    pinned, second = out.splitlines()
    assert status == 0
    assert pinned.endswith("0 messages  Pinned  [pinned, private]")
    assert second.startswith(rome[-8:])
    assert second.endswith("2 messages  Rome  [#travel]")
    assert len(history(capsys, "list", "-n", "1")[1].splitlines()) == 1
    lines = history(capsys, "list", "--json", "--all")[1].splitlines()
    assert [json.loads(line)["title"] for line in lines] == ["Pinned", "Rome"]


def test_an_empty_home_lists_nothing_and_has_nothing_to_show(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert history(capsys, "list") == (0, "", "")
    status, out, err = history(capsys, "show")
    assert (status, out) == (1, "")
    assert "There is no chat yet" in err


def test_search(capsys: pytest.CaptureFixture[str], store: ChatStore, rome: str) -> None:
    store.new_chat(title="secret Rome", private=True)
    status, out, _ = history(capsys, "search", "rome")
    assert status == 0
    assert [line.split("  ")[-1] for line in out.splitlines()] == [
        "secret Rome",
        "Rome",
        "Rome",
        "In Rome, Italy.",
    ]
    assert "secret" not in history(capsys, "search", "--no-private", "rome")[1]
    assert history(capsys, "search", "rome", "zebra") == (0, "", "")
    (line,) = history(capsys, "search", "--json", "colos")[1].splitlines()
    hit = json.loads(line)
    assert (hit["chat_id"], hit["role"], hit["matches"]) == (rome, "user", [[13, 18]])
    (line,) = history(capsys, "search", "#trav")[1].splitlines()
    assert line.endswith("title  Rome  [#travel]")


def test_show(capsys: pytest.CaptureFixture[str], rome: str) -> None:
    for arguments in ((), (rome,), (rome[-4:],)):
        status, out, _ = history(capsys, "show", *arguments)
        assert status == 0
        assert "## User\n\nWhere is the Colosseum?\n\n## Assistant\n\nIn Rome, Italy.\n" in out
    lines = history(capsys, "show", "--json")[1].splitlines()
    assert [json.loads(line)["role"] for line in lines] == ["user", "assistant"]
    status, _, err = history(capsys, "show", "zzzz")
    assert (status, "history list" in err) == (1, True)


def test_export_and_import(
    capsys: pytest.CaptureFixture[str], store: ChatStore, rome: str, tmp_path: Path
) -> None:
    file = tmp_path / "rome.json"
    assert history(capsys, "export", rome, "-f", "json", "-o", str(file)) == (0, "", "")
    if os.name != "nt":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    status, out, _ = history(capsys, "import", str(file))
    assert (status, "2 messages  Rome" in out) == (0, True)
    assert [chat.title for chat in store.chats()] == ["Rome", "Rome"]

    store.rate(store.branch(rome)[1].id, 1)
    status, out, _ = history(capsys, "export", rome, "-f", "jsonl")
    assert [turn["role"] for turn in json.loads(out)["messages"]] == ["user", "assistant"]
    assert history(capsys, "export")[1].startswith("# Rome\n")

    before = file.read_bytes()
    status, _, err = history(capsys, "export", "-o", str(file))
    assert (status, "is there already" in err, file.read_bytes()) == (1, True, before)


def test_an_import_with_faults_names_them(
    capsys: pytest.CaptureFixture[str], store: ChatStore, tmp_path: Path
) -> None:
    file = tmp_path / "bad.json"
    file.write_text('{"messages": [{"role": "wizard", "content": "x"}]}')
    status, out, err = history(capsys, "import", str(file))
    assert (status, out) == (1, "")
    assert 'messages[0].role is "wizard"' in err
    assert store.chats() == []


def test_the_good_part_of_a_file_is_imported_where_that_is_asked_for(
    capsys: pytest.CaptureFixture[str], store: ChatStore, tmp_path: Path
) -> None:
    file = tmp_path / "mixed.jsonl"
    odd = {"messages": [{"role": "Bing", "content": [{"type": "image_url"}]}]}
    lines = [{"messages": [{"role": "wizard", "content": "x"}]}, {"messages": []}, odd]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    status, _, err = history(capsys, "import", str(file))
    assert (status, "--skip-bad" in err, store.chats()) == (1, True, [])
    status, out, err = history(capsys, "import", "--skip-bad", str(file))
    assert (status, len(out.splitlines()), len(store.chats())) == (0, 1, 1)
    skipped, empty, image = err.splitlines()
    assert skipped.startswith('Skipped: line 1, messages[0].role is "wizard", not one of')
    assert empty == "line 2: it has no turn, so there is nothing to keep of it."
    assert image.startswith("line 3, messages[0].content[0]: an image is left out")


def test_cut_replies_are_left_out_of_the_training_lines_and_counted(
    capsys: pytest.CaptureFixture[str], store: ChatStore, rome: str
) -> None:
    prompt = store.add_message(rome, store.chat(rome).leaf_id, "user", "And then?")
    cut = store.begin_reply(rome, prompt.id, model="m")
    store.rate(store.finish_reply(cut.id, "Then it", "length").id, 1)
    status, out, err = history(capsys, "export", "-f", "jsonl")
    assert (status, "Then it" in out) == (0, False)
    assert err == "• 1 reply broke off, and is not learned.\n"
    status, out, err = history(capsys, "export", "-f", "jsonl", "--cut-replies")
    assert (status, "Then it" in out, err) == (0, True, "")


def test_delete_asks_first(
    capsys: pytest.CaptureFixture[str],
    store: ChatStore,
    rome: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = home / "states"
    states.mkdir()
    (states / f"{rome}.0123abcd.state").write_bytes(b"kv")
    other = store.new_chat(title="other")
    (states / f"{other.id}.0123abcd.state").write_bytes(b"kv")

    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    status, out, err = history(capsys, "delete", rome)
    assert (status, out) == (1, "")
    assert err.endswith("openchat-local: Nothing was deleted.\n")
    assert "Rome" in err
    assert "for good?" in err
    assert store.chat(rome).title == "Rome"

    assert history(capsys, "delete", rome[-8:], "--yes") == (0, "", "")
    assert [chat.title for chat in store.chats()] == ["other"]
    assert [path.name for path in states.iterdir()] == [f"{other.id}.0123abcd.state"]


def test_delete_of_what_is_not_there_deletes_nothing(
    capsys: pytest.CaptureFixture[str], store: ChatStore, rome: str
) -> None:
    status, _, err = history(capsys, "delete", rome, "zzzz", "--yes")
    assert (status, "zzzz" in err) == (1, True)
    assert store.chat(rome).title == "Rome"


def test_backup_and_restore(
    capsys: pytest.CaptureFixture[str], store: ChatStore, rome: str, home: Path, tmp_path: Path
) -> None:
    file = str(tmp_path / "backup.db")
    assert history(capsys, "backup", file) == (0, "", "")
    late = store.new_chat(title="too late")
    states = home / "states"
    states.mkdir()
    (states / f"{late.id}.0123abcd.state").write_bytes(b"kv")

    status, _, err = history(capsys, "restore", file, "--yes")
    assert (status, "Another openchat-local is running" in err) == (1, True)
    store.close()
    assert history(capsys, "restore", file, "--yes") == (0, "", "")
    (line,) = history(capsys, "list", "--json")[1].splitlines()
    assert json.loads(line)["id"] == rome
    assert list(states.iterdir()) == []


def test_wrong_usage_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("delete", "search", "export -f pdf", "list -n 0", "lost"):
        assert history(capsys, *line.split())[0] == 2


@pytest.fixture
def nasty(store: ChatStore) -> str:
    chat = store.new_chat(title=f"title {NASTY}", tags=["t"])
    prompt = store.add_message(chat.id, None, "user", f"message {NASTY}")
    store.rate(store.add_message(chat.id, prompt.id, "assistant", "reply").id, 1)
    return chat.id


@pytest.mark.usefixtures("nasty")
@pytest.mark.parametrize(
    "arguments",
    [
        ["list"], ["list", "--json"], ["show"], ["show", "--json"], ["search", "message"],
        ["search", "title"], ["search", "--json", "message"],
        ["export"], ["export", "-f", "json"], ["export", "-f", "jsonl"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_text_of_a_chat_steers_a_terminal(arguments: list[str]) -> None:
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "openchat_local.app.cli.main", "history", *arguments]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(command, stdout=follower, stdin=follower, env=environment) as process:
        os.close(follower)
        shown = b""
        while chunk := _read(leader):
            shown += chunk
        assert process.wait() == 0
    os.close(leader)
    text = shown.decode()
    bold = ("\x1b[1m", "\x1b[0m") if arguments[0] == "search" else ()
    for own in bold:  # ours, around the match
        text = text.replace(own, "")
    assert "owned" in text
    assert not set(text) & set("\x1b\x07\x9b\u202e")


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # Linux, when the last writer has closed the other end
        return b""


@pytest.mark.usefixtures("nasty")
def test_a_pipe_gets_the_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert f"message {NASTY}" in history(capsys, "export")[1]
    (line,) = history(capsys, "export", "-f", "jsonl")[1].splitlines()
    assert json.loads(line)["messages"][0] == {"role": "user", "content": f"message {NASTY}"}
    assert "\x1b" not in history(capsys, "list")[1]
