"""Chats come in whole, or not at all, and every fault is named with its place."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.app.chats import Chat, ChatImportError, ChatStore, ChatStoreError
from openchat_local.app.chats.drafts import ChatDraft
from openchat_local.app.chats.formats import export_chat, import_file, read_chats
from openchat_local.app.learning.one_chat import training_lines
from openchat_local.app.learning.rules import DEFAULT_RULES
from openchat_local.models.conversation import ROLES, SampledIds

HELLO = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}]
PARTS = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
SHAREGPT = {
    "id": "x1",
    "conversations": [
        {"from": "system", "value": "Be kind."},
        {"from": "human", "value": "Hello"},
        {"from": "gpt", "value": "Hi."},
    ],
}


def save(folder: Path, text: str) -> Path:
    path = folder / "chats.json"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def imported(store: ChatStore, path: Path) -> tuple[Chat, ...]:
    """The chats of a file that is all understood."""
    done = import_file(store, path)
    assert (done.skipped, done.notes) == ((), ())
    return done.chats


def turns(store: ChatStore, chat_id: str) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in store.branch(chat_id)]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"messages": HELLO}),
        json.dumps([{"messages": HELLO}]),
        json.dumps(HELLO),
        json.dumps(HELLO, indent=2),
        "\ufeff" + json.dumps({"messages": HELLO}) + "\r\n",
        json.dumps(SHAREGPT),
        json.dumps([SHAREGPT]),
        json.dumps(SHAREGPT["conversations"]),
        json.dumps({"messages": [{"role": "user", "content": PARTS}, HELLO[1]]}),
    ],
    ids=[
        "openai", "openai list", "bare list", "indented", "byte order mark",
        "sharegpt", "sharegpt list", "bare sharegpt", "content parts",
    ],
)  # fmt: skip
def test_every_format_gives_the_same_chat(store: ChatStore, tmp_path: Path, text: str) -> None:
    (chat,) = imported(store, save(tmp_path, text))
    assert turns(store, chat.id) == [("user", "Hello"), ("assistant", "Hi.")]
    assert chat.system_prompt == ("Be kind." if "Be kind" in text else "")
    assert chat.title == "Hello"
    assert [hit.chat_id for hit in store.search("hello")] == [chat.id, chat.id]


def test_jsonl_is_one_chat_a_line(store: ChatStore, tmp_path: Path) -> None:
    lines = [{"title": f"chat {i}", "messages": HELLO} for i in range(3)]
    text = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    chats = imported(store, save(tmp_path, text))
    assert [chat.title for chat in chats] == ["chat 0", "chat 1", "chat 2"]


def test_our_jsonl_comes_back(store: ChatStore, tmp_path: Path) -> None:
    chat = store.new_chat(system_prompt="Be kind.")
    prompt = store.add_message(chat.id, None, "user", "line\u2028separator")
    for words in ("one", "two"):
        store.rate(store.add_message(chat.id, prompt.id, "assistant", words).id, 1)
    text, _ = training_lines(store, chat.id, DEFAULT_RULES)
    back = imported(store, save(tmp_path, text))
    assert [turns(store, each.id)[1] for each in back] == [
        ("assistant", "one"),
        ("assistant", "two"),
    ]
    assert {each.system_prompt for each in back} == {"Be kind."}


def test_our_json_loses_nothing(store: ChatStore, tmp_path: Path) -> None:
    chat = store.new_chat(
        system_prompt="\x1b[31m", model="m", template="chatml", adapter="a", condition="",
        sampling={"temperature": 0.1}, private=True, tags=["x", "y"],
    )  # fmt: skip
    store.update_chat(chat.id, pinned=True, draft="unsent", title="")
    prompt = store.add_message(chat.id, None, "user", "control \x00 and \u202e")
    store.update_chat(chat.id, title="")
    reply = store.begin_reply(chat.id, prompt.id, model="m", condition="c", sampling={"seed": 1})
    store.finish_reply(reply.id, "first", "length", {"tokens": 2}, SampledIds.of([5, 6], "abc"))
    store.rate(reply.id, -1, "too long")
    store.add_message(chat.id, prompt.id, "assistant", "better", edited=True)
    store.show_leaf(chat.id, reply.id)

    exported = export_chat(store, chat.id, "json")
    elsewhere = ChatStore.open(tmp_path / "elsewhere")
    (copy,) = imported(elsewhere, save(tmp_path, exported))
    assert by_position(export_chat(elsewhere, copy.id, "json")) == by_position(exported)
    assert elsewhere.branch(copy.id)[-1].content == "first"
    elsewhere.close()

    (twin,) = imported(store, tmp_path / "chats.json")
    assert twin.id != chat.id
    assert len(store.chats()) == 2


def test_where_a_chat_comes_from_goes_along(store: ChatStore, tmp_path: Path) -> None:
    (chat,) = store.add_chats([ChatDraft((), {"title": "x"}, origin="ChatGPT")])
    exported = export_chat(store, chat.id, "json")
    (copy,) = imported(store, save(tmp_path, exported))
    assert (chat.origin, copy.origin) == ("ChatGPT", "ChatGPT")
    # An earlier version reads what says neither that nor why a reply was rated so.
    assert "origin" not in export_chat(store, store.new_chat().id, "json")


def by_position(exported: str) -> Any:
    """An exported chat with positions in place of ids, which are new in every home."""
    document = json.loads(exported)
    ids = [message["id"] for message in document["messages"]]
    document["chat"]["leaf_id"] = ids.index(document["chat"]["leaf_id"])
    del document["chat"]["id"]
    for message in document["messages"]:
        message["id"] = ids.index(message["id"])
        message["parent_id"] = message["parent_id"] and ids.index(message["parent_id"])
    return document


def test_a_reply_exported_in_mid_stream_comes_back_as_interrupted(
    store: ChatStore, tmp_path: Path
) -> None:
    chat = store.new_chat()
    store.flush_reply(store.begin_reply(chat.id, None, model=None).id, "half a")
    (copy,) = imported(store, save(tmp_path, export_chat(store, chat.id, "json")))
    (reply,) = store.branch(copy.id)
    assert (reply.content, reply.finish_reason, reply.writing) == ("half a", "interrupted", False)


OWN = {"format": "openchat-local chat", "version": 1}
ROOT = {"id": "a", "role": "user", "content": "x"}

FAULTS: list[tuple[str, list[str]]] = [
    ("", ["it holds no chat"]),
    ("[]", ["it holds no chat"]),
    ("{", ["line 1: it is not JSON"]),
    ('{"messages": [],\n "x": }', ["line 2: it is not JSON (Expecting value at column 7)"]),
    ("3", ["the file holds no chat"]),
    ("{}", ['the file has neither "messages" nor "conversations"']),
    ('{"mapping": {}}', ["it holds no chat"]),
    ('{"messages": []}', ["it holds no chat"]),
    ('{"messages": {}}', ["messages is not a list of turns"]),
    ('[{"messages": [1]}]', ["[0].messages[0] is not an object"]),
    (
        '{"messages": [{"role": "wizard", "content": 1}, {"content": null}]}',
        [
            'messages[0].role is "wizard", not one of system, ',
            "messages[0].content is not text",
            "messages[1].role is missing",
            "messages[1].content is not text",
        ],
    ),
    (
        json.dumps({"messages": HELLO}) + '\n{"messages": \n{"conversations": [{"from": "gpt"}]}',
        [
            "line 2 is not JSON (Expecting value at column",
            "line 3, conversations[0].value is not text",
        ],
    ),
    (
        '{"messages": [{"role": "user", "content": [{"type": "text"}, 3, {"kind": 1}]}]}',
        [f"messages[0].content[{i}] is not a part with text" for i in range(3)],
    ),
    ('{"messages": [{"role": "user", "content": "x", "n": NaN}]}', ["NaN is not a JSON number"]),
    ("[" * 100_000, ["nested too deeply"]),
    ('{"title": 3, "messages": [{"role": "user", "content": "x"}]}', ["title is not text"]),
    ('{"format": "other", "messages": []}', ['format is not "openchat-local chat"']),
    (json.dumps(OWN | {"version": 2}), ["version is not 1 (a newer openchat-local"]),
    (json.dumps(OWN | {"chat": {}}), ["messages is not a list"]),
    (json.dumps(OWN | {"chat": 1, "messages": []}), ["chat is not an object"]),
    (json.dumps(OWN | {"chat": {}, "messages": [], "more": 1}), ["more is not a known field"]),
    (
        json.dumps(
            OWN
            | {
                "chat": {"pinned": 1, "tags": [""], "colour": "red", "leaf_id": "z"},
                "messages": [
                    ROOT | {"rating": True, "created_at": "today", "finish_reason": "bored"},
                    ROOT | {"parent_id": "b"},
                    {"id": "c", "role": "user"},
                ],
            }
        ),
        [
            "chat.pinned is not true or false",
            "chat.tags is not a list of tags",
            "chat.colour is not a known field",
            "messages[0].rating is not one of 1, -1 or null",
            "messages[0].created_at is not a time",
            'messages[0].finish_reason is not one of "stop"',
            "messages[1].id is that of an earlier message",
            "messages[1].parent_id is not the id of an earlier message",
            "messages[2].content is missing",
            "chat.leaf_id is not the id of a message",
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FAULTS)
def test_every_fault_is_named_with_its_place(
    store: ChatStore, tmp_path: Path, text: str, expected: list[str]
) -> None:
    with pytest.raises(ChatImportError) as error:
        import_file(store, save(tmp_path, text))
    assert len(error.value.faults) == len(expected), error.value.faults
    for fault, words in zip(error.value.faults, expected, strict=True):
        assert words in fault
    assert str(error.value).startswith(f"Nothing was imported from {tmp_path / 'chats.json'}: ")
    assert "\n" not in str(error.value)
    assert store.chats() == []


def test_bytes_that_are_no_utf8_are_named_by_their_place(store: ChatStore, tmp_path: Path) -> None:
    path = tmp_path / "latin.json"
    path.write_bytes('{"messages": "é"}'.encode("latin-1"))
    with pytest.raises(ChatImportError, match="byte 14 is not UTF-8"):
        import_file(store, path)


def test_one_fault_stops_a_file_of_many_chats(store: ChatStore, tmp_path: Path) -> None:
    lines = [json.dumps({"messages": HELLO})] * 20 + ['{"messages": 0}']
    with pytest.raises(ChatImportError, match=r"line 21, messages"):
        import_file(store, save(tmp_path, "\n".join(lines)))
    assert store.chats() == []
    # Also when it is the database that refuses, in the middle of the transaction.
    chats = read_chats("good", "\n".join(lines[:20]).encode()).chats
    surrogate = read_chats("good", json.dumps({"messages": HELLO}).encode()).chats[0]
    bad = type(surrogate)(surrogate.messages, {"title": "\ud800"})
    with pytest.raises(ChatStoreError, match="UTF-8"):
        store.add_chats([*chats, bad])
    assert store.chats() == []


def test_many_faults_are_counted(store: ChatStore, tmp_path: Path) -> None:
    text = json.dumps({"messages": [{"role": "user"}] * 100})
    with pytest.raises(
        ChatImportError, match=r"; and 92 more\. Correct the file .*--skip-bad"
    ) as error:
        import_file(store, save(tmp_path, text))
    assert len(error.value.faults) == 100


def test_a_file_that_is_not_there(store: ChatStore, tmp_path: Path) -> None:
    with pytest.raises(ChatStoreError, match="No such file"):
        import_file(store, tmp_path / "missing.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "conversations", "role", "from", "content", "value", "format",
                 "version", "chat", "id", "parent_id", "leaf_id", "tags", "title",
                 "mapping", "message", "author", "parts", "content_type", "parent",
                 "chat_messages", "sender", "text", "attachments", "history", "currentId",
                 "versions", "steps", "currentlySelected", "tool_calls", "type", "rating",
                 "data", "meta", "snapshot", "annotation", "originalContent", "output"]
            ),
            inner | st.sampled_from(["user", "gpt", "openchat-local chat", 1, "text", "image",
                                     "human", "contentBlock", "a"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    _read(json.dumps(value).encode())
    if isinstance(value, dict):
        own = {"format": "openchat-local chat", "version": 1, "chat": value, "messages": [value]}
        _read(json.dumps(own).encode())


@given(st.binary(max_size=50))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    _read(data)


def _read(data: bytes) -> None:
    chats: tuple[ChatDraft, ...] = ()
    with contextlib.suppress(ChatImportError):  # any other error fails the test
        chats = read_chats("fuzz", data, skip_bad=True).chats
    assert all(message.role in ROLES for chat in chats for message in chat.messages)
