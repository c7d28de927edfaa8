"""A chat leaves as Markdown, JSON or JSONL."""

from __future__ import annotations

import json

import pytest

from openchat_local.app.chats import ChatNotFound, ChatStore
from openchat_local.app.chats.formats import export_chat


def rome(store: ChatStore) -> str:
    """A chat with two branches: a prompt with two replies, the second of them shown."""
    chat = store.new_chat(title="Rome", system_prompt="Be brief.")
    prompt = store.add_message(chat.id, None, "user", "Where is Rome?")
    first = store.begin_reply(chat.id, prompt.id, model="starter")
    store.finish_reply(first.id, "In Ital", "cancelled")
    second = store.begin_reply(chat.id, prompt.id, model="starter")
    store.finish_reply(second.id, "In **Italy**.\n\n```py\nprint('ciao')\n```", "stop")
    return chat.id


def test_markdown_reads_like_the_chat(store: ChatStore) -> None:
    text = export_chat(store, rome(store), "markdown")
    head, date, *rest = text.split("\n\n")
    assert head == "# Rome"
    assert date.startswith("*20")
    assert "\n\n".join(rest) == (
        "## System\n\nBe brief.\n\n## User\n\nWhere is Rome?\n\n"
        "## Assistant (starter)\n\nIn **Italy**.\n\n```py\nprint('ciao')\n```\n"
    )


def test_markdown_of_all_branches_numbers_them_and_says_how_replies_ended(store: ChatStore) -> None:
    text = export_chat(store, rome(store), "markdown", "all")
    first, second = text.split("*Branch 2 of 2*")
    assert "*Branch 1 of 2*" in first
    assert "## Assistant (starter) – cancelled\n\nIn Ital\n" in first
    assert "In **Italy**." in second


def test_jsonl_is_openai_messages_one_branch_a_line(store: ChatStore) -> None:
    chat_id = rome(store)
    head = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is Rome?"},
    ]
    (shown,) = map(json.loads, export_chat(store, chat_id, "jsonl").splitlines())
    assert shown["messages"][:2] == head
    assert shown["messages"][2]["content"].startswith("In **Italy**.")
    both = [json.loads(line) for line in export_chat(store, chat_id, "jsonl", "all").splitlines()]
    assert [line["messages"][2]["content"][:7] for line in both] == ["In Ital", "In **It"]
    assert both[1] == shown


def test_a_reply_without_a_word_is_no_training_example(store: ChatStore) -> None:
    chat = store.new_chat()
    reply = store.begin_reply(chat.id, None, model=None)
    store.finish_reply(reply.id, "", "engine died")
    assert export_chat(store, chat.id, "jsonl", "all") == ""


def test_json_has_everything(store: ChatStore) -> None:
    chat_id = rome(store)
    document = json.loads(export_chat(store, chat_id, "json"))
    assert document["chat"]["title"] == "Rome"
    assert [message["content"][:7] for message in document["messages"]] == [
        "Where i",
        "In Ital",
        "In **It",
    ]
    assert document["messages"][1]["finish_reason"] == "cancelled"


def test_an_empty_chat_can_be_exported(store: ChatStore) -> None:
    chat = store.new_chat()
    assert export_chat(store, chat.id, "markdown").startswith("# Untitled chat\n")
    assert export_chat(store, chat.id, "jsonl") == ""
    assert json.loads(export_chat(store, chat.id, "json"))["messages"] == []


def test_what_is_not_there_cannot_be_exported(store: ChatStore) -> None:
    with pytest.raises(ChatNotFound):
        export_chat(store, "gone", "json")
