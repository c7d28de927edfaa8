"""The full-text index: what is in it, and how text leaves it for good.

One FTS5 table. A message is at the row of its `seq`, a chat's title at minus the chat's
`seq`. The table keeps the tokens that it was given, so that an entry can be removed even
when a newer Python segments the same text differently.
"""

from __future__ import annotations

import sqlite3

from openchat_local.app.chats.segment import tokens

# `tokens` has done the segmenting; "ascii" splits at spaces and leaves the rest alone.
# Without an index of their own, beginnings of one letter cost 60 ms at 100,000 messages and
# those of two 25 ms; one of three letters (15 ms) would cost more disk than it is worth.
CREATE = """
    CREATE VIRTUAL TABLE search_index USING fts5 (words, tokenize = 'ascii', prefix = '1 2')
"""


def fill(connection: sqlite3.Connection) -> None:
    """Index every chat and every message that is not being written."""
    for seq, title in connection.execute("SELECT seq, title FROM chats").fetchall():
        set_title(connection, seq, title)
    for seq, content in connection.execute(
        "SELECT seq, content FROM messages WHERE instance IS NULL"
    ):
        add_message(connection, seq, content)


def add_message(connection: sqlite3.Connection, seq: int, content: str) -> None:
    """Index a message whose text is final."""
    _insert(connection, seq, content)


def set_title(connection: sqlite3.Connection, chat_seq: int, title: str) -> None:
    """Index a chat's title in place of the one before."""
    connection.execute("DELETE FROM search_index WHERE rowid = ?", (-chat_seq,))
    _insert(connection, -chat_seq, title)


def remove_chat(connection: sqlite3.Connection, chat_id: str) -> None:
    """Remove a chat's entries, before its rows go.

    FTS5 only marks entries as removed; "optimize" writes the index anew without them.
    (Its own "secure-delete" needs SQLite 3.42 and makes a file that older ones refuse.)
    """
    connection.execute(
        """
        DELETE FROM search_index WHERE rowid IN (
            SELECT seq FROM messages WHERE chat_id = :id
            UNION ALL SELECT -seq FROM chats WHERE id = :id)
        """,
        {"id": chat_id},
    )
    connection.execute("INSERT INTO search_index (search_index) VALUES ('optimize')")


def _insert(connection: sqlite3.Connection, rowid: int, text: str) -> None:
    words = " ".join(tokens(text))
    if words:
        connection.execute("INSERT INTO search_index (rowid, words) VALUES (?, ?)", (rowid, words))
