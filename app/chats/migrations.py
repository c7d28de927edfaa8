"""The schema, as an append-only list of named steps.

A step and its marker are written in one transaction, so that a database is always at
one known step. A step that has been released never changes; a new need is a new step.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchat_local.app.chats import index
from openchat_local.app.chats.errors import ChatStoreError


@dataclass(frozen=True, slots=True)
class Migration:
    """A named step of the schema: SQL statements, then what SQL cannot say."""

    name: str
    statements: tuple[str, ...]
    then: Callable[[sqlite3.Connection], None] | None = None


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "base schema",
        (
            """
            CREATE TABLE chats (
                seq INTEGER PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                title TEXT NOT NULL DEFAULT '',
                created_at REAL NOT NULL,
                updated_at REAL NOT NULL,
                model TEXT,
                template TEXT,
                adapter TEXT,
                condition TEXT,
                system_prompt TEXT NOT NULL DEFAULT '',
                sampling TEXT,
                private INTEGER NOT NULL DEFAULT 0 CHECK (private IN (0, 1)),
                pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
                draft TEXT NOT NULL DEFAULT '',
                leaf_id TEXT,
                FOREIGN KEY (id, leaf_id) REFERENCES messages (chat_id, id)
                    DEFERRABLE INITIALLY DEFERRED
            )
            """,
            "CREATE INDEX chats_by_time ON chats (pinned DESC, updated_at DESC)",
            """
            CREATE TABLE chat_tags (
                chat_id TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
                tag TEXT NOT NULL CHECK (tag != ''),
                PRIMARY KEY (chat_id, tag)
            ) WITHOUT ROWID
            """,
            # No ON DELETE CASCADE from parent to child: SQLite stops a cascade at a depth
            # of 1000, which a long chat reaches.
            """
            CREATE TABLE messages (
                seq INTEGER PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                chat_id TEXT NOT NULL REFERENCES chats (id),
                parent_id TEXT,
                role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
                content TEXT NOT NULL,
                created_at REAL NOT NULL,
                finish_reason TEXT,
                model TEXT,
                adapter TEXT,
                condition TEXT,
                template TEXT,
                sampling TEXT,
                usage TEXT,
                token_ids BLOB,
                rating INTEGER CHECK (rating IN (-1, 1)),
                edited INTEGER NOT NULL DEFAULT 0 CHECK (edited IN (0, 1)),
                instance TEXT,
                UNIQUE (chat_id, id),
                FOREIGN KEY (chat_id, parent_id) REFERENCES messages (chat_id, id)
            )
            """,
            "CREATE INDEX messages_by_parent ON messages (chat_id, parent_id)",
            "CREATE INDEX messages_in_writing ON messages (instance) WHERE instance IS NOT NULL",
        ),
    ),
    Migration("search index", (index.CREATE,), index.fill),
    # The instance that has deleted the chat and can still bring it back.
    Migration("deletion that can be undone", ("ALTER TABLE chats ADD COLUMN hidden_by TEXT",)),
    # The fingerprint of the vocabulary that `token_ids` belong to. Where it is not noted, as of
    # every reply before this step, the ids' own text decides if they can be used.
    Migration("vocabulary of sampled ids", ("ALTER TABLE messages ADD COLUMN vocabulary TEXT",)),
    Migration("reason of a rating", ("ALTER TABLE messages ADD COLUMN rating_reason TEXT",)),
    # The program that an imported chat comes from; of chats imported before this step it is not
    # known, and they count as written here.
    Migration("origin of an imported chat", ("ALTER TABLE chats ADD COLUMN origin TEXT",)),
    # All that `outlines` asks for: read from the index, ten thousand chats cost no look into the
    # pages that their texts lie on. It begins with what the index before it was made of.
    Migration(
        "shape of chats",
        (
            """
            CREATE INDEX messages_shape ON messages
                (chat_id, parent_id, seq, id, role, finish_reason, rating, edited, model)
            """,
            "DROP INDEX messages_by_parent",
        ),
    ),
    # Pairs of replies to be compared blind; without a choice before the vote. `first` and
    # `second` say who wrote them, as JSON.
    Migration(
        "votes of blind comparisons",
        (
            """
            CREATE TABLE votes (
                seq INTEGER PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                at REAL NOT NULL,
                chat_id TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
                prompt_id TEXT NOT NULL,
                first TEXT NOT NULL,
                second TEXT NOT NULL,
                first_reply_id TEXT NOT NULL UNIQUE,
                second_reply_id TEXT NOT NULL UNIQUE,
                choice TEXT CHECK (choice IN ('first', 'second', 'tie', 'bad', 'skip'))
            )
            """,
            "CREATE INDEX votes_by_chat ON votes (chat_id)",
        ),
    ),
)


def migrate(
    connection: sqlite3.Connection, path: Path, steps: Sequence[Migration] = MIGRATIONS
) -> None:
    """Bring the schema up to date; each step commits together with its marker.

    Only one instance at a time may call it (`Instance.opening`). Raises ChatStoreError
    if a newer version of the program has written the database, or another program.
    """
    for migration in _pending(connection, path, steps):
        _apply(connection, migration)


def is_current(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the schema is up to date. Raises ChatStoreError as `migrate` does."""
    return not _pending(connection, path, MIGRATIONS)


def _pending(
    connection: sqlite3.Connection, path: Path, steps: Sequence[Migration]
) -> list[Migration]:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if "migrations" not in tables:
        if tables:
            raise ChatStoreError(
                f"{path} is another program's database, not one of chats; move it away, "
                "or set OPENCHAT_LOCAL_HOME to another folder."
            )
        return list(steps)
    applied = {name for (name,) in connection.execute("SELECT name FROM migrations")}
    unknown = sorted(applied - {step.name for step in steps})
    if unknown:
        raise ChatStoreError(
            f'{path} was written by a newer openchat-local (its schema has "{unknown[0]}"); '
            "upgrade openchat-local, or move the file away and restore an older backup."
        )
    return [step for step in steps if step.name not in applied]


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_at REAL)"
        )
        for statement in migration.statements:
            connection.execute(statement)
        if migration.then is not None:
            migration.then(connection)
        connection.execute("INSERT INTO migrations VALUES (?, ?)", (migration.name, time.time()))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
