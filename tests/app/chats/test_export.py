"""A chat leaves as Markdown or JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatNotFound, ChatStore, ChatStoreError
from openchat_local.app.chats.formats import export_chat, write_new_file


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


def test_markdown_says_how_a_reply_is_rated_and_that_it_was_edited(store: ChatStore) -> None:
    chat = store.new_chat()
    prompt = store.add_message(chat.id, None, "user", "Hi")
    reply = store.add_message(chat.id, prompt.id, "assistant", "Hello.", edited=True)
    store.rate(reply.id, -1)
    assert "## Assistant – rated bad, edited\n" in export_chat(store, chat.id, "markdown")
    store.rate(reply.id, -1, "It is\ntoo short.")
    told = export_chat(store, chat.id, "markdown")
    assert "## Assistant – rated bad (It is too short.), edited\n" in told


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
    assert json.loads(export_chat(store, chat.id, "json"))["messages"] == []


def test_what_is_not_there_cannot_be_exported(store: ChatStore) -> None:
    with pytest.raises(ChatNotFound):
        export_chat(store, "gone", "json")


def test_half_a_file_is_not_left_behind_and_none_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "chat.md"
    with pytest.raises(ChatStoreError):
        write_new_file(path, "fine until \ud800")
    assert not path.exists()
    write_new_file(path, "first")
    with pytest.raises(ChatStoreError, match="is there already"):
        write_new_file(path, "second")
    assert path.read_text() == "first"


def test_thoughts_are_folded_in_markdown_and_whole_in_json(store: ChatStore) -> None:
    chat = store.new_chat()
    prompt = store.add_message(chat.id, None, "user", "2+2?")
    marks = {"thoughts": ["<think>", "</think>", ""]}
    reply = store.begin_reply(chat.id, prompt.id, model="thinker", sampling=marks)
    usage = {"reasoning_tokens": 640, "reasoning_seconds": 12.0}
    text = "<think>\nA sum.\n</think>\n\nFour: `<think>`."
    store.finish_reply(reply.id, text, "stop", usage)
    markdown = export_chat(store, chat.id, "markdown")
    folded = (
        "<details>\n<summary>thought for 12 s, 640 tokens</summary>\n\nA sum.\n\n</details>\n\n"
    )
    assert folded + "Four: `<think>`.\n" in markdown
    assert "A sum" not in export_chat(store, chat.id, "markdown", thoughts=False)
    assert json.loads(export_chat(store, chat.id, "json"))["messages"][1]["content"] == text
