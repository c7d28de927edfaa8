"""A deleted chat is gone from the disk, not only from the list."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatNotFound, ChatStore

from .conftest import Child

SECRETS = (
    "zwiebelfisch",
    "quetzalcoatl",
    "pumpernickel",
    "fjordpferd",
    "mitternacht",
    "東京極秘情報",
)


def raw_bytes(home: Path) -> bytes:
    """Everything in the files of the home: rows, index, free pages, write-ahead log."""
    return b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


def secret_chat(store: ChatStore) -> str:
    title, system, draft, prompt, flushed, reply = SECRETS
    chat = store.new_chat(title=title, system_prompt=system, tags=[title + "tag"])
    for i in range(200):  # long enough to fill pages, which are freed as a whole
        parent = store.add_message(chat.id, None, "user", f"{prompt} {i} " * 20)
    message = store.begin_reply(chat.id, parent.id, model=None)
    store.flush_reply(message.id, f"{flushed} " * 500)
    store.finish_reply(message.id, f"{reply} " * 500, "stop")
    store.set_draft(chat.id, draft)
    return chat.id


def secrets_in(data: bytes) -> list[str]:
    return [secret for secret in SECRETS if secret[:4].encode() in data.lower()]


def test_no_byte_of_a_deleted_chat_is_left(home: Path, store: ChatStore) -> None:
    kept = store.new_chat(title="kept")
    store.add_message(kept.id, None, "user", "A puma in the zoo")
    chat_id = secret_chat(store)
    store.add_message(kept.id, None, "user", "with thyme")
    assert secrets_in(raw_bytes(home)) == list(SECRETS), "the search itself must work"

    assert store.delete_chat(chat_id) == chat_id

    assert secrets_in(raw_bytes(home)) == []
    assert [chat.title for chat in store.chats()] == ["kept"]
    assert [len(store.search(word)) for word in ("puma", "thyme", "kept", *SECRETS)] == [
        1, 1, 1, *(0 for _ in SECRETS)
    ]  # fmt: skip


def test_the_index_has_no_entry_without_a_message(home: Path, store: ChatStore) -> None:
    for _ in range(3):
        store.delete_chat(secret_chat(store))
    store.close()
    connection = sqlite3.connect(home / "chats.db")
    assert connection.execute("SELECT count(*) FROM search_index").fetchone() == (0,)
    connection.execute("INSERT INTO search_index (search_index) VALUES ('integrity-check')")
    connection.close()


def test_it_is_gone_while_another_instance_is_open(
    home: Path, store: ChatStore, other_instance: Callable[[str], Child]
) -> None:
    chat_id = secret_chat(store)
    child = other_instance("print(len(store.chats()), flush=True); sys.stdin.read()")
    assert child.line() == "1"
    store.delete_chat(chat_id)
    assert secrets_in(raw_bytes(home)) == []


def test_only_an_empty_chat_is_deleted_as_empty(home: Path, store: ChatStore) -> None:
    chats = [store.new_chat() for _ in range(3)]
    with closing(ChatStore.open(home)) as other:  # after `chats` were read as empty
        other.add_message(chats[0].id, None, "user", "written elsewhere")
        other.set_draft(chats[1].id, "half a thought")
    assert [store.delete_if_empty(chat.id) for chat in chats] == [False, False, True]
    assert not store.delete_if_empty(chats[2].id)
    assert {chat.id for chat in store.chats()} == {chats[0].id, chats[1].id}


def test_a_hidden_chat_is_gone_for_everybody_and_comes_back_whole(
    home: Path, store: ChatStore
) -> None:
    chat_id = secret_chat(store)
    before = store.branch(chat_id)
    store.hide_chat(chat_id)
    with closing(ChatStore.open(home)) as other:  # which leaves it to the one that is alive
        for each in (store, other):
            assert each.chats() == []
            assert each.latest_chat() is None
            assert not any(each.search(word) for word in SECRETS)
            for method in (each.chat, each.branch, each.find_chat, each.hide_chat):
                with pytest.raises(ChatNotFound):
                    method(chat_id)
            with pytest.raises(ChatNotFound):
                each.add_message(chat_id, None, "user", "too late")
        with pytest.raises(ChatNotFound):
            other.unhide_chat(chat_id)
    assert store.unhide_chat(chat_id).title == SECRETS[0]
    assert store.branch(chat_id) == before
    assert len(store.search(SECRETS[0])) == 1


def test_what_was_hidden_is_erased_one_by_one_or_with_the_instance(
    home: Path, store: ChatStore
) -> None:
    kept, first, second = (secret_chat(store) for _ in range(3))
    store.set_draft(kept, "")
    for chat_id in (first, second):
        store.hide_chat(chat_id)
    store.erase_hidden(first)
    with pytest.raises(ChatNotFound):
        store.unhide_chat(first)
    assert store.unhide_chat(second).id == second
    store.hide_chat(second)
    store.hide_chat(kept)
    store.close()
    assert secrets_in(raw_bytes(home)) == []


def test_a_chat_hidden_by_an_instance_that_was_killed_is_erased_at_the_next_start(
    home: Path, store: ChatStore, other_instance: Callable[[str], Child]
) -> None:
    chat_id = secret_chat(store)
    child = other_instance(
        f"store.hide_chat({chat_id!r}); print('hidden', flush=True); sys.stdin.read()"
    )
    assert child.line() == "hidden"
    assert store.chats() == []
    child.kill()
    with closing(ChatStore.open(home)) as other:
        assert other.chats() == []
    assert secrets_in(raw_bytes(home)) == []


def test_deleting_most_of_the_text_gives_its_space_back(home: Path, store: ChatStore) -> None:
    kept = store.new_chat(title="kept")
    store.add_message(kept.id, None, "user", "a puma in the zoo")
    huge = store.new_chat()
    text = " ".join(f"word{i}" for i in range(250_000))
    store.add_message(huge.id, None, "user", text)

    def size() -> int:
        return sum(path.stat().st_size for path in home.glob("chats.db*"))

    assert size() > 2 * len(text)
    store.delete_chat(huge.id)
    assert size() < 200_000
    assert [hit.chat_id for hit in store.search("puma")] == [kept.id]


def test_a_reader_beside_it_hinders_no_deletion(
    home: Path, store: ChatStore, other_instance: Callable[[str], Child]
) -> None:
    huge = store.new_chat()
    store.add_message(huge.id, None, "user", " ".join(f"word{i}" for i in range(60_000)))
    child = other_instance(
        "connection = store._database._connection; connection.execute('BEGIN')\n"
        "print(connection.execute('SELECT count(*) FROM chats').fetchone()[0], flush=True)\n"
        "sys.stdin.readline(); connection.execute('COMMIT'); store.close()"
    )
    assert child.line() == "1"
    with store._database.exclusive() as connection:
        connection.execute("PRAGMA busy_timeout = 50")
    store.delete_chat(huge.id)
    assert store.chats() == []
    child.stdin.write("\n")
    child.stdin.flush()
    child.process.wait()
