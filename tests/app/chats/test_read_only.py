"""Chats are read from a home in which nothing can be written, and nothing of it changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore, ChatStoreError
from openchat_local.app.chats.formats import export_chat
from openchat_local.app.chats.read_only import ReadOnlyStore, is_read_only


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def filled(home: Path) -> Path:
    store = ChatStore.open(home)
    chat = store.new_chat(title="Rivers", tags=["work"])
    store.add_message(chat.id, None, "user", "Where does the Danube end?")
    store.close()
    return home


def test_everything_that_reads_works_and_nothing_is_written(filled: Path) -> None:
    before = files(filled)
    store = ReadOnlyStore.open(filled)
    chat = store.latest_chat()
    assert chat is not None
    assert [found.id for found in store.chats()] == [chat.id]
    assert store.find_chat(chat.id[-6:]) == chat
    assert [hit.chat_id for hit in store.search("danube")] == [chat.id]
    assert "Danube" in export_chat(store, chat.id, "markdown")
    with pytest.raises(ChatStoreError, match="cannot be written") as error:
        store.update_chat(chat.id, title="Seas")
    assert str(error.value).endswith(".")
    store.close()
    assert files(filled) == before


def test_a_log_with_changes_in_it_is_not_passed_over(home: Path) -> None:
    store = ChatStore.open(home)
    chat = store.new_chat(title="only in the log")
    copy = home.parent / "copy"
    copy.mkdir()
    for name in ("chats.db", "chats.db-wal"):  # as a backup takes them, without shared memory
        shutil.copy(home / name, copy)
    reader = ReadOnlyStore.open(copy)  # where a file can be made it is
    assert [found.title for found in reader.chats()] == [chat.title]
    reader.close()
    store.close()


def test_what_can_be_written_is_not_taken_for_read_only(filled: Path) -> None:
    assert not is_read_only(filled)
    assert not is_read_only(filled / "nowhere")


def test_an_older_schema_is_told(filled: Path) -> None:
    store = ChatStore.open(filled)
    with store._database.exclusive() as connection:
        connection.execute(
            "DELETE FROM migrations WHERE rowid = (SELECT max(rowid) FROM migrations)"
        )
    store.close()
    with pytest.raises(ChatStoreError, match="of an earlier version"):
        ReadOnlyStore.open(filled)
