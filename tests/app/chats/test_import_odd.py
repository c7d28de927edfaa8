"""One odd row blocks no file, and what can be understood of it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openchat_local.app.chats import ChatImportError, ChatStore
from openchat_local.app.chats.formats import Imported, import_file

HELLO = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}]


def import_text(store: ChatStore, folder: Path, text: str | bytes, **options: Any) -> Imported:
    path = folder / "chats.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return import_file(store, path, **options)


def turns(store: ChatStore, imported: Imported) -> list[tuple[str, str]]:
    (chat,) = imported.chats
    return [(message.role, message.content) for message in store.branch(chat.id)]


@pytest.mark.parametrize(
    ("turn", "role", "content", "noted"),
    [
        ({"role": "Assistant", "content": "x"}, "assistant", "x", None),
        ({"role": " USER ", "content": "x"}, "user", "x", None),
        ({"role": "bing", "content": "x"}, "assistant", "x", None),
        ({"role": "prompter", "content": "x"}, "user", "x", None),
        (
            {"role": "observation", "content": "42"},
            "user",
            "[answer of a tool]\n\n42",
            "answer of a tool",
        ),
        (
            {"role": "tool", "content": "42", "tool_call_id": "1"},
            "user",
            "[answer of a tool]\n\n42",
            "answer of a tool",
        ),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 1}'}}],
            },
            "assistant",
            '```json\n{\n "tool": "add",\n "arguments": {\n  "a": 1\n }\n}\n```',
            "call of a tool",
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": "data:…"}},
                    {"type": "text", "text": "What is it?"},
                ],
            },
            "user",
            "Look:\n\n[image]\n\nWhat is it?",
            "image is left out",
        ),
        ({"role": "user", "content": "a\ud83d b"}, "user", "a\ufffd b", "half a character"),
    ],
)
def test_an_odd_turn_is_understood_and_what_changed_is_said(
    store: ChatStore, tmp_path: Path, turn: Any, role: str, content: str, noted: str | None
) -> None:
    text = json.dumps({"messages": [HELLO[0], turn]})
    done = import_text(store, tmp_path, text)
    assert turns(store, done)[1] == (role, content)
    assert len(done.notes) == (1 if noted else 0)
    assert all(noted in note and "messages[1]" in note for note in done.notes if noted)


def test_with_skip_bad_the_rest_is_imported_and_each_fault_is_listed(
    store: ChatStore, tmp_path: Path
) -> None:
    good, bad = json.dumps({"messages": HELLO}), '{"messages": [{"role": "wizard", "content": 1}]}'
    lines = [good, bad, "{broken", '{"messages": []}', "3", good]
    text = "\n".join(lines)
    with pytest.raises(ChatImportError, match="--skip-bad"):
        import_text(store, tmp_path, text)
    assert store.chats() == []
    done = import_text(store, tmp_path, text, skip_bad=True)
    assert len(done.chats) == len(store.chats()) == 2
    places = [fault.split(" is ")[0] for fault in done.skipped]
    assert places == [
        "line 2, messages[0].role",
        "line 2, messages[0].content",
        "line 3",
        "line 5 holds no chat",
    ]
    assert done.notes == ("line 4: it has no turn, so there is nothing to keep of it.",)


def test_a_file_without_any_good_chat_is_a_fault_all_the_same(
    store: ChatStore, tmp_path: Path
) -> None:
    with pytest.raises(ChatImportError, match="wizard"):
        import_text(
            store, tmp_path, '{"messages": [{"role": "wizard", "content": "x"}]}', skip_bad=True
        )


def test_an_empty_conversation_among_others_is_passed_over_and_said(
    store: ChatStore, tmp_path: Path
) -> None:
    text = json.dumps([{"messages": []}, {"messages": HELLO}, {"conversations": []}])
    done = import_text(store, tmp_path, text)
    assert len(done.chats) == 1
    assert done.notes == ("[0], and 1 more: it has no turn, so there is nothing to keep of it.",)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_every_unicode_encoding_is_read(store: ChatStore, tmp_path: Path, encoding: str) -> None:
    text = json.dumps({"messages": [{"role": "user", "content": "Grüße 東京"}]}, ensure_ascii=False)
    done = import_text(store, tmp_path, text.encode(encoding))
    assert turns(store, done) == [("user", "Grüße 東京")]


@pytest.mark.parametrize("between", ["", "\n", "\n\n", " ", ",\n"])
@pytest.mark.parametrize("indent", [None, 1])
def test_documents_one_after_another_are_read(
    store: ChatStore, tmp_path: Path, between: str, indent: int | None
) -> None:
    one = json.dumps({"messages": HELLO}, indent=indent)
    done = import_text(store, tmp_path, between.join([one] * 3))
    assert len(done.chats) == 3


def test_a_broken_document_among_others_is_named_by_its_line(
    store: ChatStore, tmp_path: Path
) -> None:
    one = json.dumps({"messages": HELLO}, indent=1)
    broken = one.replace("Hello", 'Hel"lo')
    text = f"{one}\n{broken}\n{one}"
    done = import_text(store, tmp_path, text, skip_bad=True)
    assert len(done.chats) == 2
    assert len(done.skipped) == 1
    assert done.skipped[0].startswith(f"line {2 + one.count(chr(10))}: it is not JSON")
