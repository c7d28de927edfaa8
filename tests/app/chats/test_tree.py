"""Chats are trees: nothing that was said is overwritten."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatNotFound, ChatStore, ChatStoreError, MessageNotFound
from openchat_local.app.chats.drafts import ChatDraft, MessageDraft
from openchat_local.models.conversation import SampledIds


def contents(store: ChatStore, chat_id: str) -> list[str]:
    return [message.content for message in store.branch(chat_id)]


def test_a_chat_outlives_the_program(home: Path) -> None:
    store = ChatStore.open(home)
    chat = store.new_chat(
        system_prompt="Be brief.",
        model="starter",
        condition="",
        sampling={"temperature": 0.5, "stop": ["\n"]},
        private=True,
        tags=("work", "rome"),
    )
    prompt = store.add_message(chat.id, None, "user", "  Where is\n Rome?  ")
    reply = store.begin_reply(chat.id, prompt.id, model="starter", condition="GPT4")
    store.finish_reply(
        reply.id, "In Italy.", "stop", {"prompt_tokens": 7}, SampledIds.of([1, 32000], "v")
    )
    store.close()

    store = ChatStore.open(home)
    kept = store.chat(chat.id)
    assert kept.title == "Where is"
    assert kept.tags == ("rome", "work")
    assert (kept.system_prompt, kept.condition, kept.private) == ("Be brief.", "", True)
    assert kept.sampling == {"temperature": 0.5, "stop": ["\n"]}
    assert kept.message_count == 2
    prompt, reply = store.branch(chat.id)
    assert (prompt.role, prompt.content, prompt.finish_reason) == (
        "user",
        "  Where is\n Rome?  ",
        None,
    )
    assert (reply.role, reply.content, reply.finish_reason) == ("assistant", "In Italy.", "stop")
    assert (reply.condition, reply.usage, reply.writing) == ("GPT4", {"prompt_tokens": 7}, False)
    assert reply.sampled == SampledIds.of([1, 32000], "v")
    assert [*reply.sampled.ids] == [1, 32000]
    store.close()


def test_any_text_comes_back_as_it_was(store: ChatStore) -> None:
    chat = store.new_chat()
    text = "\x00\x1b[2J\r\n\u202e\ufeff 'quoted' \"too\" 𝕊 \U0001f468\u200d\U0001f469 \x7f\x9b"
    message = store.add_message(chat.id, None, "user", text)
    assert store.message(message.id).content == text


def test_editing_a_prompt_adds_a_sibling_and_the_old_branch_stays(store: ChatStore) -> None:
    chat = store.new_chat()
    first = store.add_message(chat.id, None, "user", "first")
    answer = store.add_message(chat.id, first.id, "assistant", "answer")
    edited = store.add_message(chat.id, None, "user", "edited")

    assert contents(store, chat.id) == ["edited"]
    assert [m.content for m in store.siblings(first.id)] == ["first", "edited"]
    assert store.siblings(edited.id) == store.siblings(first.id)
    assert [m.id for m in store.siblings(answer.id)] == [answer.id]
    assert [m.content for m in store.path_to(answer.id)] == ["first", "answer"]
    assert [m.content for m in store.messages(chat.id)] == ["first", "answer", "edited"]


def test_a_branch_is_shown_down_to_where_it_was_last_at_work(store: ChatStore) -> None:
    chat = store.new_chat()
    root = store.add_message(chat.id, None, "user", "root")
    old = store.add_message(chat.id, root.id, "assistant", "old")
    store.add_message(chat.id, root.id, "assistant", "new")
    deep = store.add_message(chat.id, old.id, "user", "deep in the old one")
    other = store.add_message(chat.id, None, "user", "other")
    assert contents(store, chat.id) == ["other"]

    assert store.show_leaf(chat.id, root.id).leaf_id == deep.id
    assert contents(store, chat.id) == ["root", "old", "deep in the old one"]
    assert store.show_leaf(chat.id, other.id).leaf_id == other.id


def test_a_very_long_chat_is_read_and_deleted(store: ChatStore) -> None:
    turns = tuple(MessageDraft("user", str(i), i - 1 if i else None) for i in range(1500))
    (chat,) = store.add_chats([ChatDraft(turns)])
    assert contents(store, chat.id) == [str(i) for i in range(1500)]
    store.delete_chat(chat.id)
    assert store.chats() == []


def test_the_list_has_pinned_chats_first_then_those_used_last(store: ChatStore) -> None:
    a, b, c = (store.new_chat(title=title) for title in "abc")
    store.add_message(a.id, None, "user", "back again")
    store.update_chat(b.id, pinned=True)
    assert [chat.title for chat in store.chats()] == ["b", "a", "c"]
    assert [chat.title for chat in store.chats(limit=1, offset=1)] == ["a"]
    latest = store.latest_chat()
    assert latest is not None
    assert latest.id == a.id
    # A prompt that was never sent is no chat to go on with.
    store.set_draft(store.new_chat(title="draft").id, "unsent")
    assert store.latest_chat() == latest
    store.delete_chat(store.chats()[1].id)
    # Looking after a chat is not using it.
    store.set_draft(c.id, "unsent")
    store.update_chat(c.id, title="renamed")
    assert [chat.title for chat in store.chats()] == ["b", "a", "renamed"]


def test_a_title_comes_from_the_first_prompt_only(store: ChatStore) -> None:
    chat = store.new_chat()
    first = store.add_message(chat.id, None, "user", "\n\n  A   long\tline " + "x" * 100)
    title = store.chat(chat.id).title
    assert title.startswith("A long line xxx")
    assert (len(title), title[-1]) == (60, "…")
    store.update_chat(chat.id, title="Mine")
    store.add_message(chat.id, first.id, "user", "second")
    assert store.chat(chat.id).title == "Mine"


def test_settings_of_a_chat_change_one_by_one(store: ChatStore) -> None:
    chat = store.new_chat(model="starter")
    store.update_chat(chat.id, adapter="mine", sampling={"seed": 1}, condition=None)
    store.set_system_prompt(chat.id, "Answer in French.")
    store.set_private(chat.id, True)
    store.update_chat(chat.id, tags=["b", "a", "b"])
    store.set_draft(chat.id, "half a thou")
    changed = store.chat(chat.id)
    assert (changed.model, changed.adapter, changed.sampling) == ("starter", "mine", {"seed": 1})
    assert (changed.system_prompt, changed.private) == ("Answer in French.", True)
    assert (changed.tags, changed.draft) == (("a", "b"), "half a thou")
    assert store.update_chat(chat.id, tags=[]).tags == ()


def test_a_reply_is_rated_and_the_rating_withdrawn(store: ChatStore) -> None:
    chat = store.new_chat()
    reply = store.add_message(chat.id, None, "assistant", "hello", edited=True)
    assert (reply.edited, reply.finish_reason, reply.rating) == (True, "stop", None)
    assert store.rate(reply.id, -1).rating == -1
    assert store.rate(reply.id, None).rating is None
    why = store.rate(reply.id, -1, " It is too long. ")
    assert (why.rating, why.rating_reason) == (-1, "It is too long.")
    assert store.message(reply.id) == why
    # A reason belongs to the rating that it was given for.
    assert store.rate(reply.id, 1).rating_reason is None
    assert store.rate(reply.id, None, "gone").rating_reason is None


def test_a_chat_is_found_by_either_end_of_its_id(store: ChatStore) -> None:
    chats = [store.new_chat(title=str(i)) for i in range(20)]
    for chat in chats:
        assert store.find_chat(chat.id) == chat
        assert store.find_chat(chat.short_id.upper()) == chat
    with pytest.raises(ChatNotFound, match="More than one chat"):
        store.find_chat(chats[0].id[:4])
    with pytest.raises(ChatNotFound, match="too short"):
        store.find_chat(chats[0].id[:3])
    with pytest.raises(ChatNotFound, match="begins or ends"):
        store.find_chat("%%%%")


def test_ids_sort_by_time_and_fit_a_file_name(store: ChatStore) -> None:
    ids = [store.new_chat().id for _ in range(50)]
    assert ids == sorted(ids)
    assert all(set(each) <= set("0123456789abcdef-") for each in ids)


def test_what_is_not_there_is_said(store: ChatStore) -> None:
    chat, other = store.new_chat(), store.new_chat()
    message = store.add_message(chat.id, None, "user", "hello")
    no_chat: list[Callable[[], object]] = [
        lambda: store.chat("gone"),
        lambda: store.branch("gone"),
        lambda: store.update_chat("gone", title="x"),
        lambda: store.delete_chat("gone"),
        lambda: store.add_message("gone", None, "user", "x"),
    ]
    for call in no_chat:
        with pytest.raises(ChatNotFound, match="history list"):
            call()
    no_message: list[Callable[[], object]] = [
        lambda: store.message("gone"),
        lambda: store.path_to("gone"),
        lambda: store.siblings("gone"),
        lambda: store.rate("gone", 1),
        lambda: store.flush_reply("gone", "x"),
        lambda: store.finish_reply("gone", "x", "stop"),
        lambda: store.add_message(other.id, message.id, "user", "x"),
        lambda: store.show_leaf(other.id, message.id),
    ]
    for call in no_message:
        with pytest.raises(MessageNotFound):
            call()
    assert store.messages(other.id) == []


def test_text_that_is_no_utf8_is_refused_and_nothing_is_saved(store: ChatStore) -> None:
    chat = store.new_chat()
    with pytest.raises(ChatStoreError, match="UTF-8"):
        store.add_message(chat.id, None, "user", "a byte of an argument: \udcff")
    assert store.messages(chat.id) == []


def test_many_threads_share_one_store(store: ChatStore) -> None:
    chat = store.new_chat()

    def talk(name: int) -> None:
        parent = None
        for i in range(10):
            parent = store.add_message(chat.id, parent, "user", f"{name} says {i}").id
            store.search("says")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(talk, range(8)))
    assert len(store.messages(chat.id)) == 80
    assert len(store.search("says", limit=1000)) == 81  # the title as well


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps folders private by access lists")
def test_the_files_are_their_owners_alone(home: Path) -> None:
    mask = os.umask(0)
    try:
        store = ChatStore.open(home)
        store.new_chat(title="secret")
        files = [home, *home.rglob("*")]
    finally:
        os.umask(mask)
    assert {path.name for path in files} >= {"chats.db", "chats.db-wal", "chats.db-shm"}
    assert [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    store.close()


def test_a_message_knows_which_of_its_siblings_it_is(store: ChatStore) -> None:
    chat = store.new_chat()
    other = store.new_chat()
    store.add_message(other.id, None, "user", "of another chat")
    first = store.add_message(chat.id, None, "user", "one")
    second = store.add_message(chat.id, None, "user", "two")
    reply = store.add_message(chat.id, second.id, "assistant", "to two")
    assert [(m.sibling, m.siblings) for m in store.branch(chat.id)] == [(2, 2), (1, 1)]
    assert [(m.sibling, m.siblings) for m in store.siblings(first.id)] == [(1, 2), (2, 2)]
    assert store.message(reply.id).siblings == 1


def test_messages_are_counted_on_the_branch_that_is_shown(store: ChatStore) -> None:
    chat = store.new_chat()
    prompt = store.add_message(chat.id, None, "user", "question")
    first = store.add_message(chat.id, prompt.id, "assistant", "one")
    store.add_message(chat.id, first.id, "user", "and then?")
    store.add_message(chat.id, prompt.id, "assistant", "two")
    assert store.chat(chat.id).message_count == 2
    assert store.show_leaf(chat.id, first.id).message_count == 3
    assert [each.message_count for each in store.chats()] == [3]
    assert store.new_chat().message_count == 0
