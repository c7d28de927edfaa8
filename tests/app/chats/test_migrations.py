"""A database of any earlier version opens, with everything in it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore, ChatStoreError
from openchat_local.app.chats.database import connect
from openchat_local.app.chats.migrations import MIGRATIONS, Migration, migrate
from openchat_local.models.conversation import SampledIds

OLD_CHAT = """
    INSERT INTO chats (id, title, created_at, updated_at, draft, private)
    VALUES ('c1', 'Old chat', 1.5, 2.5, 'unsent', 1);
    INSERT INTO chat_tags VALUES ('c1', 'old');
    INSERT INTO messages (id, chat_id, parent_id, role, content, created_at, instance)
    VALUES ('m1', 'c1', NULL, 'user', 'Where is 東京?', 1.6, NULL),
           ('m2', 'c1', 'm1', 'assistant', 'In Ja', 1.7, 'an-instance-long-dead');
    INSERT INTO messages (id, chat_id, parent_id, role, content, created_at, token_ids)
    VALUES ('m3', 'c1', 'm1', 'assistant', 'Elsewhere', 1.8, X'0100000000020000');
    UPDATE chats SET leaf_id = 'm2';
"""


def database_at_step(path: Path, step: int) -> None:
    """A database with data in it since its first version, migrated as far as `step`."""
    path.parent.mkdir(parents=True)
    connection = connect(path)
    migrate(connection, path, MIGRATIONS[:1])
    connection.executescript(OLD_CHAT)
    migrate(connection, path, MIGRATIONS[:step])
    connection.close()


@pytest.mark.parametrize("step", range(1, len(MIGRATIONS) + 1))
def test_every_earlier_schema_is_brought_up_to_date(home: Path, step: int) -> None:
    database_at_step(home / "chats.db", step)
    store = ChatStore.open(home)

    (chat,) = store.chats()
    assert (chat.title, chat.created_at, chat.updated_at > 2) == ("Old chat", 1.5, True)
    assert (chat.draft, chat.private, chat.tags) == ("unsent", True, ("old",))
    prompt, reply = store.branch("c1")
    assert (prompt.content, reply.content) == ("Where is 東京?", "In Ja")
    assert reply.finish_reason == "interrupted"
    for query, expected in (("東京", ["m1"]), ("ja", ["m2"]), ("old", [None])):
        assert [hit.message_id for hit in store.search(query)] == expected

    # Whose ids they are was not noted then.
    assert store.message("m3").sampled == SampledIds.of([1, 512], None)

    # What is newer than the chat is not known of it.
    assert (chat.origin, reply.rating_reason) == (None, None)
    assert store.rate("m3", -1, "no").rating_reason == "no"

    # And it is as good as a new one.
    store.add_message("c1", "m2", "user", "Thanks")
    assert [hit.chat_id for hit in store.search("thanks")] == ["c1"]
    store.delete_chat("c1")
    assert store.search("old") == []
    store.close()


def test_old_and_new_databases_have_the_same_schema(home: Path, tmp_path: Path) -> None:
    def schema(folder: Path) -> list[tuple[str, str]]:
        ChatStore.open(folder).close()
        connection = sqlite3.connect(folder / "chats.db")
        rows = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
        connection.close()
        return rows

    database_at_step(home / "chats.db", 1)
    assert schema(home) == schema(tmp_path / "new")


def test_a_step_that_fails_leaves_the_database_at_the_step_before(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    connection = connect(path)
    migrate(connection, path)
    before = list(connection.iterdump())
    failing = Migration(
        "half done",
        (
            "CREATE TABLE half (done)",
            "ALTER TABLE chats RENAME TO talks",
            "SELECT no_such_function()",
        ),
    )
    with pytest.raises(sqlite3.OperationalError, match="no_such_function"):
        migrate(connection, path, (*MIGRATIONS, failing))
    assert list(connection.iterdump()) == before
    migrate(connection, path)
    connection.close()


def test_a_database_of_a_newer_version_is_left_alone(home: Path) -> None:
    ChatStore.open(home).close()
    connection = sqlite3.connect(home / "chats.db")
    connection.execute("INSERT INTO migrations VALUES ('holograms', 1)")
    connection.commit()
    connection.close()
    before = (home / "chats.db").read_bytes()
    with pytest.raises(
        ChatStoreError, match=r'chats\.db was written by a newer.*"holograms".*upgrade'
    ):
        ChatStore.open(home)
    assert (home / "chats.db").read_bytes() == before


def test_another_programs_database_is_left_alone(home: Path) -> None:
    home.mkdir()
    connection = sqlite3.connect(home / "chats.db")
    connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    with pytest.raises(ChatStoreError, match="another program's database"):
        ChatStore.open(home)


def test_names_of_steps_are_unique() -> None:
    names = [migration.name for migration in MIGRATIONS]
    assert len(set(names)) == len(names) >= 2
