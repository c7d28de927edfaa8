"""Chats of other programs, in the shapes that those let one download."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.app.chats import Chat, ChatImportError, ChatStore
from openchat_local.app.chats.formats import Imported, archive, import_file, read_chats


@pytest.fixture
def bring_in(store: ChatStore, tmp_path: Path) -> Callable[[Any], Imported]:
    """Import a value as JSON, or bytes as they are."""

    def bring(value: Any) -> Imported:
        path = tmp_path / "export"
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        return import_file(store, path)

    return bring


def shown(store: ChatStore, chat: Chat) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in store.branch(chat.id)]


def zipped(**files: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, value in files.items():
            content = value if isinstance(value, bytes | str) else json.dumps(value)
            file.writestr(name.replace("__", "/").replace("_json", ".json"), content)
    return buffer.getvalue()


# ChatGPT


def node(name: str, parent: str | None, role: str, *parts: Any, **message: Any) -> dict[str, Any]:
    content = {"content_type": "text", "parts": list(parts)} | message.pop("content", {})
    metadata = message.pop("metadata", {})
    return {
        "id": name,
        "parent": parent,
        "children": [],
        "message": {
            "id": name,
            "author": {"role": role, "name": None, "metadata": {}},
            "create_time": 1_700_000_000.5 + len(name),
            "content": content,
            "status": "finished_successfully",
            "recipient": "all",
            "metadata": metadata,
        }
        | message,
    }


def chatgpt() -> dict[str, Any]:
    slug = {"model_slug": "gpt-4o", "finish_details": {"type": "stop"}}
    cut = {"model_slug": "gpt-4", "finish_details": {"type": "max_tokens"}}
    image = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}
    several = {"content_type": "multimodal_text"}
    hidden = {"is_visually_hidden_from_conversation": True}
    nodes = [
        {"id": "root", "parent": None, "children": ["sys"], "message": None},
        node("sys", "root", "system", "", metadata=hidden),
        node("q", "sys", "user", "Where is Rome?"),
        node("cut", "q", "assistant", "In Ital", metadata=cut),
        node("good", "q", "assistant", "In Italy.", metadata=slug),
        node("edited", "sys", "user", image, "And this?", content=several),
        node("thought", "good", "assistant", content={"content_type": "thoughts", "parts": None}),
        node("next", "thought", "user", "Add 1 and 1."),
        node("call", "next", "assistant", "", recipient="python",
             content={"content_type": "code", "language": "unknown", "text": "1 + 1"}),
        node("answer", "call", "tool", content={"content_type": "execution_output", "text": "2"}),
        node("end", "answer", "assistant", "It is 2.", metadata=slug),
    ]  # fmt: skip
    return {
        "title": "Rome",
        "create_time": 1_700_000_000.0,
        "update_time": 1_700_000_900.0,
        "mapping": {each["id"]: each for each in nodes},
        "current_node": "end",
        "conversation_id": "c1",
        "plugin_ids": None,
    }


def test_chatgpt_keeps_every_branch_and_shows_the_one_that_was_open(
    store: ChatStore, bring_in: Callable[[Any], Imported]
) -> None:
    done = bring_in([chatgpt()])
    (chat,) = done.chats
    assert (chat.title, chat.created_at, chat.updated_at) == (
        "Rome",
        1_700_000_000.0,
        1_700_000_900.0,
    )
    assert (chat.model, chat.message_count) == (None, len(store.branch(chat.id)))
    assert shown(store, chat) == [
        ("user", "Where is Rome?"),
        ("assistant", "In Italy."),
        ("user", "Add 1 and 1."),
        ("assistant", "[call of python]\n\n```\n1 + 1\n```"),
        ("user", "[answer of a tool]\n\n2"),
        ("assistant", "It is 2."),
    ]
    first = store.branch(chat.id)[0]
    assert [each.content for each in store.siblings(first.id)] == [
        "Where is Rome?",
        "[image]\n\nAnd this?",
    ]
    cut, good = store.siblings(store.branch(chat.id)[1].id)
    assert cut.parent_id == good.parent_id == first.id
    assert (cut.content, cut.finish_reason, cut.model) == ("In Ital", "length", "gpt-4")
    assert (good.finish_reason, good.model, good.created_at) == ("stop", "gpt-4o", 1_700_000_004.5)
    kinds = " ".join(done.notes)
    assert all(word in kinds for word in ("image", "thoughts", "call of a tool", "answer of a"))


def test_chatgpts_archive_has_the_ratings_too(
    store: ChatStore, bring_in: Callable[[Any], Imported]
) -> None:
    feedback = [
        {"id": "f", "message_id": "good", "conversation_id": "c1", "rating": "thumbsUp"},
        {"id": "cut", "conversation_id": "c1", "rating": "thumbs_down"},
    ]
    done = bring_in(
        zipped(
            user_json={"id": "u"},
            conversations_json=[chatgpt()],
            message_feedback_json=feedback,
            chat_html="<html>",
        ).replace(b"message.feedback", b"message_feedback")
    )
    (chat,) = done.chats
    ratings = {each.content: each.rating for each in store.messages(chat.id)}
    assert (ratings["In Italy."], ratings["In Ital"], ratings["It is 2."]) == (1, -1, None)


def test_a_long_chatgpt_chat_is_no_recursion(
    store: ChatStore, bring_in: Callable[[Any], Imported]
) -> None:
    names = [f"n{i}" for i in range(1500)]
    nodes = {
        name: node(name, names[i - 1] if i else None, "user", f"turn {i}")
        for i, name in enumerate(names)
    }
    (chat,) = bring_in({"title": "long", "mapping": nodes, "current_node": names[-1]}).chats
    assert len(store.branch(chat.id)) == 1500


def test_messages_that_go_in_circles_are_a_fault(bring_in: Callable[[Any], Imported]) -> None:
    nodes = {"a": node("a", "b", "user", "x"), "b": node("b", "a", "assistant", "y")}
    with pytest.raises(ChatImportError, match="go in circles"):
        bring_in([{"mapping": nodes, "current_node": "b"}])


# Claude


def claude() -> dict[str, Any]:
    root = "00000000-0000-4000-8000-000000000000"

    def message(name: str, parent: str, sender: str, *content: Any, **more: Any) -> dict[str, Any]:
        return {
            "uuid": name, "parent_message_uuid": parent, "sender": sender, "text": "",
            "content": list(content), "created_at": "2025-03-01T10:00:00.250000Z",
            "attachments": [], "files": [],
        } | more  # fmt: skip

    def text(words: str) -> dict[str, str]:
        return {"type": "text", "text": words}

    pasted = {"file_name": "", "extracted_content": "A long text."}
    return {
        "uuid": "c", "name": "Notes", "created_at": "2025-03-01T10:00:00Z",
        "updated_at": "2025-03-02T10:00:00Z", "account": {"uuid": "me"},
        "current_leaf_message_uuid": "r2",
        "chat_messages": [
            message("h1", root, "human", text("Summarise."), attachments=[pasted],
                    files=[{"file_name": "plan.pdf"}]),
            message("r1", "h1", "assistant", text("First.")),
            message("r2", "h1", "assistant", {"type": "thinking"}, text("Second."),
                    stop_reason="max_tokens"),
        ],
    }  # fmt: skip


def test_claude_keeps_branches_attachments_and_how_a_reply_ended(
    store: ChatStore, bring_in: Callable[[Any], Imported]
) -> None:
    done = bring_in([claude(), {"uuid": "e", "name": "", "chat_messages": []}])
    (chat,) = done.chats
    assert (chat.title, chat.updated_at - chat.created_at) == ("Notes", 86_400)
    assert shown(store, chat) == [
        ("user", "Summarise.\n\n[pasted]\n\nA long text.\n\n[file: plan.pdf]"),
        ("assistant", "Second."),
    ]
    prompt, reply = store.branch(chat.id)
    assert reply.parent_id == prompt.id
    assert [each.content for each in store.siblings(reply.id)] == ["First.", "Second."]
    assert reply.finish_reason == "length"
    assert len(done.notes) == 3  # a file, thoughts, and the empty chat


def test_claudes_older_exports_are_a_list_without_parents(
    store: ChatStore, bring_in: Callable[[Any], Imported]
) -> None:
    messages = [{"uuid": "1", "sender": "human", "text": "Hi"},
                {"uuid": "2", "sender": "assistant", "text": "Hello."}]  # fmt: skip
    (chat,) = bring_in({"uuid": "c", "name": "x", "chat_messages": messages}).chats
    assert shown(store, chat) == [("user", "Hi"), ("assistant", "Hello.")]


# LM Studio


def lm_studio() -> dict[str, Any]:
    def user(words: str) -> dict[str, Any]:
        return {"type": "singleStep", "role": "user", "content": [{"type": "text", "text": words}]}

    def reply(words: str, end: str) -> dict[str, Any]:
        info = {"indexedModelIdentifier": "qwen/qwen-7b", "stats": {"stopReason": end}}
        thought = {"type": "contentBlock", "style": {"type": "thinking"},
                   "content": [{"type": "text", "text": "hm"}]}  # fmt: skip
        block = {
            "type": "contentBlock",
            "content": [{"type": "text", "text": words}],
            "genInfo": info,
        }
        return {"type": "multiStep", "role": "assistant", "senderInfo": {"senderName": "qwen"},
                "steps": [thought, block, {"type": "debugInfoBlock"}]}  # fmt: skip

    return {
        "name": "Rome", "pinned": True, "createdAt": 1_722_000_000_000, "systemPrompt": "Be brief.",
        "messages": [
            {"versions": [user("Where is Rome?")], "currentlySelected": 0},
            {"versions": [reply("In Italy.", "eosFound"), reply("In Eur", "userStopped")],
             "currentlySelected": 0},
            {"versions": [user("Thanks.")], "currentlySelected": 0},
        ],
    }  # fmt: skip


def test_lm_studio_keeps_versions_the_system_prompt_and_the_model(
    store: ChatStore, bring_in: Callable[[Any], Imported]
) -> None:
    (chat,) = bring_in(lm_studio()).chats
    assert (chat.title, chat.system_prompt, chat.pinned) == ("Rome", "Be brief.", True)
    assert chat.created_at == 1_722_000_000
    assert shown(store, chat) == [
        ("user", "Where is Rome?"),
        ("assistant", "In Italy."),
        ("user", "Thanks."),
    ]
    chosen, other = store.siblings(store.branch(chat.id)[1].id)
    assert (chosen.model, chosen.finish_reason) == ("qwen/qwen-7b", "stop")
    assert (other.content, other.finish_reason) == ("In Eur", "cancelled")


# Open WebUI


def open_webui() -> dict[str, Any]:
    def message(name: str, parent: str | None, role: str, content: str, **more: Any) -> Any:
        return {"id": name, "parentId": parent, "childrenIds": [], "role": role,
                "content": content, "timestamp": 1_720_000_000} | more  # fmt: skip

    bad = {"rating": -1, "details": {"rating": 2}}
    messages = [
        message("1", None, "user", "Where is Rome?", models=["llama3"]),
        message("2", "1", "assistant", "In Spain.", model="llama3", annotation=bad, done=True),
        message("3", "1", "assistant", "In Italy.", model="llama3", annotation={"rating": 1}),
    ]
    return {
        "id": "x", "user_id": "u", "title": "Rome", "created_at": 1_720_000_000,
        "updated_at": 1_720_000_100, "pinned": False, "meta": {"tags": ["travel"]},
        "chat": {
            "title": "Rome", "models": ["llama3"], "params": {"system": "Be brief."},
            "history": {"messages": {each["id"]: each for each in messages}, "currentId": "2"},
        },
    }  # fmt: skip


def test_open_webui_keeps_branches_ratings_and_tags(
    store: ChatStore, bring_in: Callable[[Any], Imported]
) -> None:
    done = bring_in([open_webui()])
    (chat,) = done.chats
    assert done.notes == ()
    assert (chat.system_prompt, chat.tags) == ("Be brief.", ("travel",))
    assert shown(store, chat) == [("user", "Where is Rome?"), ("assistant", "In Spain.")]
    ratings = [(each.rating, each.model) for each in store.siblings(store.branch(chat.id)[1].id)]
    assert ratings == [(-1, "llama3"), (1, "llama3")]


def open_webui_feedback() -> dict[str, Any]:
    said = {"rating": 1, "reason": "other", "comment": "Short.", "tags": ["travel"]}
    return {
        "type": "rating", "data": said, "meta": {"chat_id": "x", "message_id": "2"},
        "snapshot": {"chat": open_webui()}, "created_at": 1_720_000_100,
    }  # fmt: skip


# Archives


def test_an_archive_without_a_conversations_file_gives_all_its_json(
    bring_in: Callable[[Any], Imported],
) -> None:
    done = bring_in(zipped(a__one_json=lm_studio(), a__two_json=lm_studio(), notes="x"))
    assert len(done.chats) == 2


def test_faults_in_an_archive_name_its_file(bring_in: Callable[[Any], Imported]) -> None:
    with pytest.raises(ChatImportError, match=r"conversations\.json, \[0\] holds no chat"):
        bring_in(zipped(conversations_json=[3]))


def test_an_archive_that_would_fill_the_memory_is_refused(
    bring_in: Callable[[Any], Imported], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "ALWAYS_ALLOWED", 100_000)
    bomb = zipped(conversations_json=b" " * 3_000_000)
    with pytest.raises(ChatImportError, match="unpacks to more than"):
        bring_in(bomb)


@pytest.mark.parametrize("spoil", [lambda data: data[:60], lambda data: data[:40] + b"x" * 9])
def test_an_archive_that_is_damaged_is_one_sentence(
    bring_in: Callable[[Any], Imported], spoil: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(ChatImportError, match=r"not a \.zip that can be read here"):
        bring_in(spoil(zipped(conversations_json=[chatgpt()])))


# Whatever is in them


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside a JSON value."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            found += places(inner, (*path, key))
    return found


JUNK = st.sampled_from(
    ["null", "true", "0", "-1", "1e308", "1" + "0" * 30, '""', '"x"', '"\\ud800"', '"2025-13-99"',
     "[]", "[1]", "[[]]", "{}", '{"a": 1}']
).map(json.loads)  # fmt: skip
SAMPLES = {
    each.__name__: each for each in (chatgpt, claude, lm_studio, open_webui, open_webui_feedback)
}


@pytest.fixture(scope="module")
def any_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatStore]:
    store = ChatStore.open(tmp_path_factory.mktemp("any") / "home")
    yield store
    store.close()


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_an_export_with_junk_in_it_is_read_or_refused(
    any_store: ChatStore, name: str, data: st.DataObject
) -> None:
    export: Any = [SAMPLES[name]()]
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(places(export)))
        inside = export
        for key in above:
            inside = inside[key]
        inside[last] = data.draw(JUNK)
    with contextlib.suppress(ChatImportError):  # any other error fails the test
        read = read_chats("fuzz", json.dumps(export).encode())
        any_store.add_chats(read.chats)
