"""Every fault of the disk and the file is one sentence with a next step."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore, ChatStoreError
from openchat_local.app.chats import database as database_module


def is_one_sentence(error: pytest.ExceptionInfo[ChatStoreError]) -> bool:
    text = str(error.value)
    return "\n" not in text and text.endswith(".") and "Traceback" not in text


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"Dear diary, today I wrote over a database. " * 100,
        lambda data: data[: len(data) // 2],
        lambda data: data[:50] + os.urandom(len(data) - 50),
    ],
    ids=["text", "truncated", "overwritten"],
)
def test_a_damaged_file_is_named_and_kept(home: Path, damage: object) -> None:
    store = ChatStore.open(home)
    store.add_message(store.new_chat().id, None, "user", "text " * 5000)
    store.close()
    path = home / "chats.db"
    damaged = damage(path.read_bytes())  # type: ignore[operator]
    path.write_bytes(damaged)
    with pytest.raises(ChatStoreError, match=r"chats\.db is damaged.*history restore") as error:
        ChatStore.open(home).messages(ChatStore.open(home).chats()[0].id)
    assert is_one_sentence(error)
    assert path.read_bytes() == damaged


def test_a_database_that_is_full_takes_no_half_message(store: ChatStore) -> None:
    chat = store.new_chat(title="full")
    reply = store.begin_reply(chat.id, None, model=None)
    store.flush_reply(reply.id, "saved")
    with store._database.exclusive() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ChatStoreError, match=r"disk that holds .*chats\.db is full") as error:
        store.flush_reply(reply.id, "x" * 1_000_000)
    assert is_one_sentence(error)
    assert store.message(reply.id).content == "saved"
    with store._database.exclusive() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    assert store.finish_reply(reply.id, "x" * 1_000_000, "stop").finish_reason == "stop"


def test_a_database_that_another_program_locks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.1)
    store = ChatStore.open(home)
    other = sqlite3.connect(home / "chats.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ChatStoreError, match="Another program keeps the chats") as error:
        store.new_chat()
    assert is_one_sentence(error)
    assert store.chats() == []
    other.execute("ROLLBACK")
    other.close()
    assert store.new_chat().title == ""
    store.close()


def test_a_store_that_was_closed_says_so(store: ChatStore) -> None:
    store.close()
    store.close()
    for call in (store.chats, store.new_chat, store.data_version):
        with pytest.raises(ChatStoreError, match="closed"):
            call()


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(ChatStoreError, match="home") as error:
        ChatStore.open(tmp_path / "home")
    assert is_one_sentence(error)


def in_a_mount(mount: str, code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` where `mount`, a shell command, has changed the file system."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    script = f'{mount}; exec "$0" -c "$1"'
    prelude = (
        "from pathlib import Path\n"
        "from openchat_local.app.chats import ChatStore, ChatStoreError\n"
        f"home = Path({str(home)!r})\n"
    )
    return subprocess.run(
        [*command, script, sys.executable, prelude + code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def mounts() -> None:
    """Skips where the system lets nobody but root mount (some containers, macOS)."""
    if sys.platform != "linux":
        pytest.skip("unshare is Linux's; the full database above covers the sentence")
    probe = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "t", "/mnt"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this system allows no user namespaces")


@pytest.mark.usefixtures("mounts")
def test_a_disk_that_runs_full_while_a_reply_streams(home: Path) -> None:
    home.mkdir()
    code = """
(home / "ballast").write_bytes(bytes(300_000))
store = ChatStore.open(home)
reply = store.begin_reply(store.new_chat().id, None, model=None)
text = "saved"
try:
    while True:
        store.flush_reply(reply.id, text)
        saved, text = text, text + "x" * 20_000
except ChatStoreError as error:
    print(error)
assert store.message(reply.id).content == saved
store.close()
(home / "ballast").unlink()
again = ChatStore.open(home)
assert again.message(reply.id).content == saved
assert again.message(reply.id).finish_reason == "interrupted"
try:
    (home / "ballast").write_bytes(bytes(1_000_000))
except OSError:
    pass
try:
    again.backup(home / "backup.db")
except ChatStoreError as error:
    print(error)
assert sorted(path.name for path in home.iterdir() if "partial" in path.name) == []
"""
    ran = in_a_mount(f"mount -t tmpfs -o size=1m tmpfs {home}", code, home)
    assert ran.returncode == 0, ran.stderr
    full, backup = ran.stdout.splitlines()
    assert full == f"The disk that holds {home}/chats.db is full; make room and try again."
    assert backup == f"The disk that holds {home}/backup.db is full; make room and try again."


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("filled", [True, False], ids=["with chats", "empty"])
def test_a_read_only_home(home: Path, filled: bool) -> None:
    home.mkdir()
    if filled:
        store = ChatStore.open(home)
        store.new_chat()
        store.close()
    code = """
try:
    ChatStore.open(home)
except ChatStoreError as error:
    print(error)
"""
    mount = f"mount --bind {home} {home}; mount -o remount,ro,bind {home}"
    ran = in_a_mount(mount, code, home)
    assert ran.returncode == 0, ran.stderr
    assert "cannot be written (Read-only file system); make it writable" in ran.stdout
    assert str(home) in ran.stdout
    assert len(ran.stdout.splitlines()) == 1


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
def test_chats_are_read_from_a_read_only_home(home: Path, closed: bool) -> None:
    home.mkdir()
    store = ChatStore.open(home)
    chat = store.new_chat(title="Rivers")
    store.add_message(chat.id, None, "user", "Where does the Danube end?")
    if closed:
        store.close()
    code = """
import os
from openchat_local.app.cli.main import main
os.environ["OPENCHAT_LOCAL_HOME"] = str(home)
reading = (["list"], ["search", "danube"], ["show"], ["export"])
codes = [main(["history", *words]) for words in reading]
print(codes, main(["history", "delete", "-y", "Rivers"]))
"""
    before = {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}
    # Another's file of shared memory cannot be taken over where nothing can be written.
    gone = "" if closed else f"rm {home}/chats.db-shm; "
    mount = f"{gone}mount --bind {home} {home}; mount -o remount,ro,bind {home}"
    ran = in_a_mount(mount, code, home)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    if closed:
        assert ran.stdout.count("Danube") >= 3
        assert "[0, 0, 0, 0] 1" in ran.stdout
        assert {p.name: p.read_bytes() for p in home.iterdir() if p.is_file()} == before
    else:
        assert "[1, 1, 1, 1] 1" in ran.stdout
        assert "were not closed" in ran.stderr
        store.close()


@pytest.mark.usefixtures("mounts")
def test_a_disk_that_is_full_before_existing_chats_are_opened(home: Path) -> None:
    home.mkdir()
    code = """
store = ChatStore.open(home)
store.new_chat(title="kept")
store.close()
try:
    with (home / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
except OSError:
    pass
try:
    ChatStore.open(home)
except ChatStoreError as error:
    print(error)
(home / "ballast").unlink()
assert [chat.title for chat in ChatStore.open(home).chats()] == ["kept"]
"""
    ran = in_a_mount(f"mount -t tmpfs -o size=1m tmpfs {home}", code, home)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"The disk that holds {home}/chats.db is full; make room and try again.\n"
