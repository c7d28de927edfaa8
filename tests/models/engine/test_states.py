from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from openchat_local.models.engine.states import StateStore, forget_chat


def write_bytes(content: bytes):  # type: ignore[no-untyped-def]
    return lambda path: path.write_bytes(content)


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path / "states", budget=1000, model_key="model-a")


def save(store: StateStore, chat: str, size: int = 10) -> bool:
    return store.save(chat, [1, 2, 3], [[0, 2]], size, write_bytes(b"x" * size))


def test_a_state_is_found_again_with_its_tokens(store: StateStore) -> None:
    assert save(store, "chat-1")
    state = store.find("chat-1")
    assert state is not None
    assert (state.tokens, state.chunks, state.size) == ([1, 2, 3], [[0, 2]], 10)
    assert store.verified_path("chat-1", state) == store.data_path("chat-1")


def test_another_models_state_is_not_found(store: StateStore) -> None:
    save(store, "chat-1")
    assert StateStore(store.folder, 1000, "model-b").find("chat-1") is None


def test_a_state_whose_bytes_changed_is_removed_and_not_used(store: StateStore) -> None:
    save(store, "chat-1")
    state = store.find("chat-1")
    assert state is not None
    store.data_path("chat-1").write_bytes(b"y" * 10)
    assert store.verified_path("chat-1", state) is None
    assert list(store.folder.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', "{", '{"format": 1}'])
def test_a_broken_sidecar_is_no_state(store: StateStore, text: str) -> None:
    save(store, "chat-1")
    store.data_path("chat-1").with_suffix(".json").write_text(text)
    assert store.find("chat-1") is None


def test_a_truncated_state_is_no_state(store: StateStore) -> None:
    save(store, "chat-1")
    store.data_path("chat-1").write_bytes(b"x")
    assert store.find("chat-1") is None


def test_the_least_recently_used_states_make_room(store: StateStore) -> None:
    for age, chat in enumerate(("new", "old", "older")):
        save(store, chat, 400 if chat != "older" else 100)
        os.utime(store.data_path(chat), (1_000_000 - age, 1_000_000 - age))
    assert save(store, "next", 450)
    assert {path.name.split(".")[0] for path in store.folder.iterdir()} == {"new", "next"}


def test_a_state_over_the_budget_is_not_written(store: StateStore) -> None:
    assert not save(store, "chat-1", 1001)
    assert store.find("chat-1") is None


def test_a_failed_write_leaves_nothing(store: StateStore) -> None:
    assert not store.save("chat-1", [1], [], 10, lambda path: (path.write_bytes(b"") and 1) or 0)
    assert list(store.folder.iterdir()) == []


def test_forgetting_a_chat_removes_the_states_of_every_model(store: StateStore) -> None:
    save(store, "chat-1")
    other = StateStore(store.folder, 1000, "model-b")
    other.save("chat-1", [1], [], 10, write_bytes(b"z" * 10))
    save(store, "chat-2")
    forget_chat(store.folder, "chat-1")
    assert {path.name.split(".")[0] for path in store.folder.iterdir()} == {"chat-2"}


@pytest.mark.parametrize("key", ["", "../up", "a/b", "a*", "a.b"])
def test_a_key_that_is_not_a_plain_name_is_refused(store: StateStore, key: str) -> None:
    with pytest.raises(ValueError, match="letters, digits and dashes"):
        store.find(key)
    with pytest.raises(ValueError, match="letters, digits and dashes"):
        forget_chat(store.folder, key)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_the_folder_is_private(store: StateStore) -> None:
    save(store, "chat-1")
    assert store.folder.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has access lists and no modes")
def test_a_state_is_its_owners_alone(store: StateStore) -> None:
    assert save(store, "chat-1")
    assert {path.stat().st_mode & 0o777 for path in store.folder.iterdir()} == {0o600}


def test_without_a_budget_nothing_is_kept_nothing_found_and_all_forgotten(
    store: StateStore,
) -> None:
    save(store, "chat-1")
    without = StateStore(store.folder, budget=0, model_key="model-a")
    assert without.find("chat-1") is None
    assert not save(without, "chat-2")
    assert len(list(store.folder.iterdir())) == 2
    forget_chat(store.folder, "chat-1")
    assert list(store.folder.iterdir()) == []


@pytest.mark.parametrize("chunks", ["x", [[0, 9]], [[2, 1]], [[0]], [1], None])
def test_chunks_that_cannot_be_are_no_state(store: StateStore, chunks: object) -> None:
    save(store, "chat-1")
    sidecar = store.data_path("chat-1").with_suffix(".json")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"chunks": chunks}))
    assert store.find("chat-1") is None
