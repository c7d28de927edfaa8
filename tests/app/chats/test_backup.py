"""Everything as one file, and back."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore, ChatStoreError
from openchat_local.app.chats.database import connect
from openchat_local.app.chats.migrations import MIGRATIONS, migrate


def test_a_backup_brings_back_what_was(home: Path, store: ChatStore, tmp_path: Path) -> None:
    chat = store.new_chat(title="before")
    store.add_message(chat.id, None, "user", "a word to remember")
    store.backup(tmp_path / "backup.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.db", home.name]
    if os.name != "nt":
        assert stat.S_IMODE((tmp_path / "backup.db").stat().st_mode) == 0o600

    store.delete_chat(chat.id)
    store.new_chat(title="after")
    store.restore(tmp_path / "backup.db")
    assert [chat.title for chat in store.chats()] == ["before"]
    assert [hit.snippet for hit in store.search("remember")] == ["a word to remember"]
    store.add_message(chat.id, None, "user", "and on it goes")
    store.close()
    assert sorted(path.name for path in home.iterdir()) == ["chats.db", "instances"]

    again = ChatStore.open(home)
    assert len(again.messages(chat.id)) == 2
    again.close()


def test_a_reply_that_was_being_written_is_closed_on_restore(
    store: ChatStore, tmp_path: Path
) -> None:
    reply = store.begin_reply(store.new_chat().id, None, model=None)
    store.flush_reply(reply.id, "half a")
    store.backup(tmp_path / "backup.db")
    elsewhere = ChatStore.open(tmp_path / "elsewhere")
    elsewhere.restore(tmp_path / "backup.db")
    restored = elsewhere.message(reply.id)
    assert (restored.content, restored.finish_reason) == ("half a", "interrupted")
    elsewhere.close()


def test_a_backup_of_an_older_version_is_migrated(store: ChatStore, tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    connection = connect(old)
    migrate(connection, old, MIGRATIONS[:1])
    connection.execute(
        "INSERT INTO chats (id, title, created_at, updated_at) VALUES ('c', 'ancient', 1, 1)"
    )
    connection.close()
    before = old.read_bytes()
    store.restore(old)
    assert [hit.title for hit in store.search("ancient")] == ["ancient"]
    assert old.read_bytes() == before


def test_a_backup_never_replaces_a_file(store: ChatStore, tmp_path: Path) -> None:
    (tmp_path / "backup.db").write_text("precious")
    with pytest.raises(ChatStoreError, match="is there already"):
        store.backup(tmp_path / "backup.db")
    assert (tmp_path / "backup.db").read_text() == "precious"
    with pytest.raises(ChatStoreError, match="no folder"):
        store.backup(tmp_path / "nowhere" / "backup.db")


def bad_backups(folder: Path, good: bytes) -> dict[Path, str]:
    files = {
        "text.db": (b"Dear diary", "is not a backup"),
        "empty.db": (b"", "is not a backup"),
        "truncated.db": (good[: len(good) // 2], "damaged"),
        "overwritten.db": (good[:200] + b"\xff" * 8000 + good[8200:], "damaged"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    expected = {folder / name: message for name, (_, message) in files.items()}
    other = sqlite3.connect(folder / "recipes.db")
    other.execute("CREATE TABLE recipes (name)")
    other.close()
    (folder / "newer.db").write_bytes(good)
    newer = sqlite3.connect(folder / "newer.db")
    newer.execute("INSERT INTO migrations VALUES ('holograms', 1)")
    newer.commit()
    newer.close()
    return expected | {
        folder / "recipes.db": "not one of chats",
        folder / "newer.db": "holograms",
        folder / "missing.db": "No such file",
        folder: "cannot be used",
    }


def test_a_bad_backup_changes_nothing(home: Path, store: ChatStore, tmp_path: Path) -> None:
    chat = store.new_chat(title="mine")
    store.add_message(chat.id, None, "user", "still here " * 3000)
    store.backup(tmp_path / "good.db")
    for path, expected in bad_backups(tmp_path, (tmp_path / "good.db").read_bytes()).items():
        with pytest.raises(ChatStoreError, match=expected):
            store.restore(path)
    assert store.chats() == [store.chat(chat.id)]
    assert len(store.search("here")) == 1
    assert not list(home.glob(".*")), "no scratch file is left"


def test_restoring_under_another_running_instance_is_refused(
    home: Path, store: ChatStore, tmp_path: Path
) -> None:
    store.backup(tmp_path / "backup.db")
    other = ChatStore.open(home)
    with pytest.raises(ChatStoreError, match="Another openchat-local is running"):
        store.restore(tmp_path / "backup.db")
    other.close()
    store.restore(tmp_path / "backup.db")
