"""A chat leaves as Markdown, JSON or JSONL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def test_jsonl_is_openai_messages_one_branch_a_line(store: ChatStore) -> None:
    chat_id = rome(store)
    head = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is Rome?"},
    ]
    (shown,) = map(json.loads, export_chat(store, chat_id, "jsonl").splitlines())
    assert shown["messages"][:2] == head
    assert shown["messages"][2]["content"].startswith("In **Italy**.")
    assert "class" not in shown
    assert lines_of(store, chat_id, "all") == [shown]
    both = lines_of(store, chat_id, "all", cut_replies=True)
    assert [line["messages"][2]["content"][:7] for line in both] == ["In Ital", "In **It"]
    assert both[0]["messages"][2]["finish_reason"] == "cancelled"
    assert both[1] == shown


def lines_of(store: ChatStore, chat_id: str, *arguments: Any, **options: Any) -> list[Any]:
    text = export_chat(store, chat_id, "jsonl", *arguments, **options)
    return [json.loads(line) for line in text.splitlines()]


def told(line: Any) -> list[tuple[str, float | None]]:
    """The replies of a line, each with its weight."""
    turns = line["messages"]
    return [(turn["content"], turn.get("weight")) for turn in turns if turn["role"] == "assistant"]


def test_a_reply_carries_what_is_known_of_it(store: ChatStore) -> None:
    chat = store.new_chat()
    prompt = store.add_message(chat.id, None, "user", "Hi")
    reply = store.begin_reply(chat.id, prompt.id, model="m", adapter="a", condition="")
    store.finish_reply(reply.id, "Hello.", "stop")
    store.rate(reply.id, 1)
    (line,) = lines_of(store, chat.id)
    assert line == {
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": "Hello.",
                "rating": 1,
                "finish_reason": "stop",
                "model": "m",
                "adapter": "a",
                "condition": "",
            },
        ],
        "class": "good",
    }


def test_rated_replies_become_a_line_for_each_class(store: ChatStore) -> None:
    chat = store.new_chat()
    parent = None
    for number, rating in enumerate((None, 1, -1, None)):
        asked = store.add_message(chat.id, parent, "user", f"question {number}")
        reply = store.add_message(chat.id, asked.id, "assistant", f"answer {number}")
        store.rate(reply.id, rating)
        parent = reply.id
    good, bad = lines_of(store, chat.id)
    assert (good["class"], told(good)) == ("good", [("answer 0", 0), ("answer 1", None)])
    assert (bad["class"], told(bad)) == (
        "bad",
        [("answer 0", 0), ("answer 1", 0), ("answer 2", None)],
    )


def test_what_a_person_wrote_is_good_and_branches_count_once(store: ChatStore) -> None:
    chat = store.new_chat()
    prompt = store.add_message(chat.id, None, "user", "Hi")
    store.add_message(chat.id, prompt.id, "assistant", "Hm.")
    edited = store.add_message(chat.id, prompt.id, "assistant", "Hello!", edited=True)
    for follow_up in ("one", "two"):
        asked = store.add_message(chat.id, edited.id, "user", follow_up)
        store.add_message(chat.id, asked.id, "assistant", "yes")
    (line,) = lines_of(store, chat.id, "all")
    assert (line["class"], told(line)) == ("good", [("Hello!", None)])
    assert line["messages"][-1]["edited"] is True


def test_a_reply_that_was_cut_is_context_and_an_empty_one_is_no_turn(store: ChatStore) -> None:
    chat = store.new_chat()
    parent = None
    for content, end in (("Half a", "length"), ("", "engine died"), ("Whole.", "stop")):
        asked = store.add_message(chat.id, parent, "user", f"before {content}")
        reply = store.begin_reply(chat.id, asked.id, model=None)
        store.finish_reply(reply.id, content, end)
        parent = reply.id
    (line,) = lines_of(store, chat.id)
    assert told(line) == [("Half a", 0), ("Whole.", None)]
    assert [turn["role"] for turn in line["messages"]] == ["user", "assistant"] * 2
    assert line["messages"][2]["content"] == "before \n\nbefore Whole."
    assert told(lines_of(store, chat.id, cut_replies=True)[0])[0] == ("Half a", None)


def test_a_chat_without_a_whole_reply_has_nothing_to_train_on(store: ChatStore) -> None:
    chat = store.new_chat()
    reply = store.begin_reply(chat.id, None, model=None)
    store.finish_reply(reply.id, "", "engine died")
    with pytest.raises(ChatStoreError, match="Markdown and JSON have all of it"):
        export_chat(store, chat.id, "jsonl", "all")
    reply = store.begin_reply(chat.id, None, model=None)
    store.finish_reply(reply.id, "half", "length")
    with pytest.raises(ChatStoreError, match="--cut-replies"):
        export_chat(store, chat.id, "jsonl", "all")


def test_markdown_says_how_a_reply_is_rated_and_that_it_was_edited(store: ChatStore) -> None:
    chat = store.new_chat()
    prompt = store.add_message(chat.id, None, "user", "Hi")
    reply = store.add_message(chat.id, prompt.id, "assistant", "Hello.", edited=True)
    store.rate(reply.id, -1)
    assert "## Assistant – rated bad, edited\n" in export_chat(store, chat.id, "markdown")


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
