"""KV states never outlive their chat, even if the engine wrote them after its deletion."""

from __future__ import annotations

from pathlib import Path

from openchat_local.app.chats import ChatStore


def test_opening_removes_the_states_of_chats_that_are_gone_or_private(home: Path) -> None:
    store = ChatStore.open(home)
    kept, deleted, private = (store.new_chat() for _ in range(3))
    store.delete_chat(deleted.id)
    store.set_private(private.id, True)
    store.close()
    states = home / "states"
    states.mkdir()
    for chat in (kept, deleted, private):  # as an engine that closes later does
        for ending in ("kv", "json"):
            (states / f"{chat.id}.0123abcd.{ending}").write_bytes(b"tokens")
    ChatStore.open(home).close()
    assert {path.name for path in states.iterdir()} == {
        f"{kept.id}.0123abcd.kv",
        f"{kept.id}.0123abcd.json",
    }


def test_a_stray_file_among_the_states_is_left_alone(home: Path) -> None:
    (home / "states").mkdir(parents=True)
    stray = home / "states" / "[notes] of mine.txt"
    stray.write_text("mine")
    ChatStore.open(home).close()
    assert stray.exists()
