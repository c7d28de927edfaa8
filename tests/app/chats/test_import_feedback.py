"""Ratings that people gave in other programs, brought in with the chats that they are about."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.app.chats import ChatImportError, ChatStore
from openchat_local.app.chats.drafts import ChatDraft
from openchat_local.app.chats.formats import Imported, import_file, read_chats


@pytest.fixture
def bring_in(store: ChatStore, tmp_path: Path) -> Callable[[Any], Imported]:
    def bring(value: Any) -> Imported:
        path = tmp_path / "feedback-history-export.json"
        path.write_text(json.dumps(value), encoding="utf-8")
        return import_file(store, path)

    return bring


def read(*documents: Any) -> tuple[ChatDraft, ...]:
    return read_chats("export", json.dumps(list(documents)).encode()).chats


def message(name: str, parent: str | None, role: str, content: str, **more: Any) -> dict[str, Any]:
    model = {"model": "llama3"} if role == "assistant" else {}
    return {"id": name, "parentId": parent, "role": role, "content": content, **model, **more}


def chat(*messages: dict[str, Any], shown: str | None = None, **more: Any) -> dict[str, Any]:
    history = {
        "messages": {each["id"]: each for each in messages},
        "currentId": shown or messages[-1]["id"],
    }
    return {"id": "c1", "title": "Rome", "chat": {"history": history}} | more


def feedback(about: str, rating: Any, snapshot: Any, **more: Any) -> dict[str, Any]:
    said = {"rating": rating, "model_id": "llama3", "reason": "", "comment": ""}
    chat_id = (snapshot or {}).get("id", "c1")
    return {
        "id": f"f-{about}",
        "user_id": "u",
        "version": 0,
        "type": "rating",
        "data": said | more.pop("data", {}),
        "meta": {"chat_id": chat_id, "message_id": about, "arena": False},
        "snapshot": None if snapshot is None else {"chat": snapshot},
        "created_at": 1_720_000_000,
        "updated_at": 1_720_000_000,
    } | more


PROMPT = message("q", None, "user", "Where is Rome?")
SPAIN = message("spain", "q", "assistant", "In Spain.")
ITALY = message("italy", "q", "assistant", "In Italy.")


def ratings(draft: ChatDraft) -> dict[str, tuple[int | None, str | None]]:
    return {
        each.content: (each.fields.get("rating"), each.fields.get("rating_reason"))
        for each in draft.messages
        if each.role == "assistant"
    }


# Open WebUI's feedback


def test_a_feedback_is_its_chat_with_the_rating_and_the_reason(
    store: ChatStore, bring_in: Callable[[Any], Imported]
) -> None:
    said = {"reason": "not_factually_correct", "comment": "Rome is in Italy.", "tags": ["travel"]}
    done = bring_in([feedback("spain", -1, chat(PROMPT, SPAIN, ITALY), data=said)])
    (brought,) = done.chats
    assert (brought.title, brought.origin, brought.tags) == ("Rome", "Open WebUI", ("travel",))
    assert [each.content for each in store.branch(brought.id)] == ["Where is Rome?", "In Italy."]
    spain, italy = store.siblings(store.branch(brought.id)[1].id)
    assert (spain.rating, spain.rating_reason) == (-1, "not factually correct: Rome is in Italy.")
    assert (italy.rating, italy.rating_reason, italy.model) == (None, None, "llama3")
    assert done.notes == ()


def test_feedbacks_of_one_chat_are_one_chat() -> None:
    """Each was given when the chat was another; the newest chat is shown, and nothing is lost."""
    deleted = message("deleted", "q", "assistant", "On the moon.")
    after = message("after", "italy", "user", "Thanks.")
    (draft,) = read(
        feedback("italy", "1", chat(PROMPT, ITALY, after), updated_at=3),
        feedback("deleted", -1, chat(PROMPT, deleted), updated_at=1),
        feedback("italy", -1, chat(PROMPT, deleted, ITALY), updated_at=2),
    )
    assert ratings(draft) == {"In Italy.": (1, None), "On the moon.": (-1, None)}
    leaf = draft.messages[draft.leaf if draft.leaf is not None else -1]
    assert leaf.content == "Thanks."


def test_feedbacks_of_several_chats_stay_apart() -> None:
    other = chat(PROMPT, SPAIN) | {"id": "c2", "title": "Again"}
    first, second = read(feedback("italy", 1, chat(PROMPT, ITALY)), feedback("spain", -1, other))
    assert [each.fields["title"] for each in (first, second)] == ["Rome", "Again"]
    assert (ratings(first), ratings(second)) == (
        {"In Italy.": (1, None)},
        {"In Spain.": (-1, None)},
    )


def test_in_an_arena_the_siblings_come_along_under_the_models_that_were_drawn() -> None:
    drawn = [
        each | {"arena": True, "model": "arena-model", "selectedModelId": name}
        for each, name in ((SPAIN, "phi"), (ITALY, "qwen"))
    ]
    voted = feedback("italy", 1, chat(PROMPT, *drawn), data={"sibling_model_ids": ["phi"]})
    (draft,) = read(voted)
    assert ratings(draft) == {"In Spain.": (None, None), "In Italy.": (1, None)}
    replies = [each for each in draft.messages if each.role == "assistant"]
    assert [each.fields["model"] for each in replies] == ["phi", "qwen"]
    assert {each.parent for each in replies} == {0}


def test_a_reply_edited_in_place_stands_beside_what_the_model_wrote() -> None:
    """And that it was bad was said of what the model wrote."""
    edited = ITALY | {"originalContent": "In Spain."}
    (draft,) = read(feedback("italy", -1, chat(PROMPT, edited), data={"reason": "other"}))
    assert ratings(draft) == {"In Spain.": (-1, None), "In Italy.": (None, None)}
    assert [each.fields.get("edited") for each in draft.messages[1:]] == [None, True]
    (draft,) = read(feedback("italy", 1, chat(PROMPT, edited)))
    assert ratings(draft) == {"In Spain.": (None, None), "In Italy.": (1, None)}


def test_what_cannot_be_kept_of_a_feedback_is_said(bring_in: Callable[[Any], Imported]) -> None:
    done = bring_in(
        [
            feedback("italy", 1, chat(PROMPT, ITALY)),
            feedback("gone", 1, chat(PROMPT, ITALY)),
            feedback("italy", 7, chat(PROMPT, ITALY)),
            feedback("a", 1, None) | {"meta": {"chat_id": "elsewhere", "message_id": "a"}},
            feedback("b", 1, None) | {"meta": {"chat_id": "elsewhere", "message_id": "b"}},
        ]
    )
    assert len(done.chats) == 1
    assert sorted(done.notes) == [
        "[1]: a rating is about a reply that is not in its chat and is left out.",
        "[2]: a feedback says neither good nor bad and is left out.",
        "[3], and 1 more: a rating comes without the chat it is about and is left out.",
    ]


def test_a_feedback_without_a_snapshot_counts_where_another_has_the_chat() -> None:
    (draft,) = read(feedback("spain", -1, None), feedback("italy", 1, chat(PROMPT, SPAIN, ITALY)))
    assert ratings(draft) == {"In Spain.": (-1, None), "In Italy.": (1, None)}


def test_feedbacks_without_a_chat_are_no_import(bring_in: Callable[[Any], Imported]) -> None:
    with pytest.raises(ChatImportError, match=r"holds no chat; \[0\]: a rating comes without"):
        bring_in([feedback("italy", 1, None)])


def test_a_fault_in_a_snapshot_is_named_with_its_place(bring_in: Callable[[Any], Imported]) -> None:
    good, bad = chat(PROMPT, ITALY), chat(PROMPT, ITALY | {"role": "poet"}) | {"id": "c2"}
    with pytest.raises(
        ChatImportError, match=r"\[1\]\.snapshot\.chat\.history\.messages\.italy\.role is not one"
    ):
        bring_in([feedback("italy", 1, good), feedback("italy", 1, bad)])


# Open WebUI's chats


def test_ratings_on_messages_have_their_reasons_and_older_ones_count() -> None:
    said = {"rating": 1, "reason": "accurate_information", "comment": "It names the country."}
    (draft,) = read(chat(PROMPT, SPAIN | {"rating": -1}, ITALY | {"annotation": said}))
    assert ratings(draft) == {
        "In Spain.": (-1, None),
        "In Italy.": (1, "accurate information: It names the country."),
    }


def test_thoughts_and_tools_within_the_text_are_told_from_it() -> None:
    content = (
        '<details type="reasoning" done="true" duration="3">\n<summary>Thought</summary>\n'
        '&gt; Rome, hm.\n</details>\nI look.\n<details type="tool_calls" done="true" name="map" '
        'arguments="{&quot;city&quot;: &quot;Rome&quot;}" result="&quot;Italy&quot;">\n'
        "<summary>Executed</summary>\n</details>\nIn Italy."
    )
    exported = json.dumps([chat(PROMPT, ITALY | {"content": content})])
    done = read_chats("export", exported.encode())
    (draft,) = done.chats
    assert draft.messages[1].content == (
        'I look.\n\n```json\n{\n "tool": "map",\n "arguments": {\n  "city": "Rome"\n }\n}\n```'
        "\n\n[answer of a tool]\n\nItaly\n\nIn Italy."
    )
    assert ["thoughts" in note or "tool" in note for note in done.notes] == [True, True]


def test_a_reply_that_is_kept_as_items_is_read() -> None:
    output = [
        {"type": "reasoning", "content": []},
        {"type": "message", "content": [{"type": "output_text", "text": "In Italy."}]},
    ]
    (draft,) = read(chat(PROMPT, ITALY | {"content": "", "output": output}))
    assert draft.messages[1].content == "In Italy."


def test_an_error_is_no_reply() -> None:
    whole = ITALY | {"error": True, "content": "503"}
    broken = SPAIN | {"error": {"content": "503"}}
    (draft,) = read(chat(PROMPT, broken, whole))
    assert [(each.content, each.fields.get("finish_reason")) for each in draft.messages[1:]] == [
        ("In Spain.", "engine died")
    ]


# ChatGPT


def test_chatgpts_ratings_have_their_reasons(store: ChatStore, tmp_path: Path) -> None:
    def node(name: str, parent: str | None, role: str, text: str) -> dict[str, Any]:
        content = {"content_type": "text", "parts": [text]}
        return {
            "id": name,
            "parent": parent,
            "message": {"id": name, "author": {"role": role}, "content": content},
        }

    nodes = [
        node("q", None, "user", "Where is Rome?"),
        node("spain", "q", "assistant", "In Spain."),
        node("italy", "q", "assistant", "In Italy."),
    ]
    said = json.dumps({"text": "Rome is in Italy.", "tags": ["false", "not-helpful"]})
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as file:
        mapping = {each["id"]: each for each in nodes}
        conversations = [{"title": "Rome", "mapping": mapping, "current_node": "italy"}]
        file.writestr("conversations.json", json.dumps(conversations))
        file.writestr(
            "message_feedback.json",
            json.dumps(
                [
                    {"message_id": "spain", "rating": "thumbsDown", "content": said},
                    {"id": "italy", "rating": "thumbs_up", "content": "{}"},
                ]
            ),
        )
    (brought,) = import_file(store, path).chats
    assert brought.origin == "ChatGPT"
    spain, italy = store.siblings(store.branch(brought.id)[1].id)
    assert (spain.rating, spain.rating_reason) == (-1, "false, not helpful: Rome is in Italy.")
    assert (italy.rating, italy.rating_reason) == (1, None)


# Where chats come from


def test_a_chat_knows_the_program_that_it_came_from() -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    spoken = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]
    versions = {"versions": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}
    sent = [{"uuid": "1", "sender": "human", "text": "Hi"}]
    drafts = read(
        {"messages": turns},
        {"conversations": spoken},
        {"messages": [versions]},
        {"chat_messages": sent},
        chat(PROMPT, ITALY),
    )
    assert [each.origin for each in drafts] == [
        "OpenAI messages",
        "ShareGPT",
        "LM Studio",
        "Claude",
        "Open WebUI",
    ]


# Whatever was rated


@st.composite
def rated_trees(draw: st.DrawFn) -> tuple[list[dict[str, Any]], dict[str, int | None]]:
    """Messages of a chat, parents first, each turn answering the one above; and the ratings
    that its replies were given, by their texts."""
    messages = [message("0", None, "user", "text 0")]
    said: dict[str, int | None] = {}
    for number in range(1, draw(st.integers(1, 12))):
        above = draw(st.sampled_from(messages))
        role = "assistant" if above["role"] == "user" else "user"
        messages.append(message(str(number), above["id"], role, f"text {number}"))
        if role == "assistant":
            said[f"text {number}"] = draw(st.sampled_from([1, -1, None]))
    return messages, said


@settings(max_examples=60)
@given(rated_trees(), st.data())
def test_every_reply_has_its_own_rating_and_no_other(
    tree: tuple[list[dict[str, Any]], dict[str, int | None]], data: st.DataObject
) -> None:
    """As feedbacks, each with the chat as it was then; and as annotations of one chat."""
    messages, said = tree
    feedbacks = []
    for each in messages:
        rating = said.get(each["content"])
        if rating is not None:
            number = int(each["id"])
            until = data.draw(st.integers(number + 1, len(messages)))
            feedbacks.append(
                feedback(each["id"], rating, chat(*messages[:until]), updated_at=until)
            )
    # The newest has the whole chat, as it does when it was the last thing that happened.
    feedbacks.append(feedback("0", None, chat(*messages), updated_at=len(messages) + 1))
    (draft,) = read(*data.draw(st.permutations(feedbacks)))
    assert {text: rating for text, (rating, _) in ratings(draft).items()} == said
    parents = {each.content: each.parent for each in draft.messages}
    for each in messages[1:]:
        above = parents[each["content"]]
        assert above is not None
        assert draft.messages[above].content == f"text {each['parentId']}"

    annotated = [
        each | {"annotation": {"rating": said[each["content"]]}}
        if each["content"] in said
        else each
        for each in messages
    ]
    (draft,) = read(chat(*annotated))
    assert {text: rating for text, (rating, _) in ratings(draft).items()} == said
