"""A reply is on disk while it streams, whatever happens to the program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from openchat_local.app.chats import REPLY_ENDS, ChatStore, MessageNotFound, ReplyEnd

from .conftest import Child

STREAM = """
chat = store.new_chat()
prompt = store.add_message(chat.id, None, "user", "Count.")
reply = store.begin_reply(chat.id, prompt.id, model="starter")
text = ""
for i in range(100_000):
    text += f"{i} "
    store.flush_reply(reply.id, text)
    print(i, reply.id, chat.id, flush=True)
"""


def test_a_reply_is_begun_flushed_and_finished(store: ChatStore) -> None:
    chat = store.new_chat()
    prompt = store.add_message(chat.id, None, "user", "Hello")
    reply = store.begin_reply(chat.id, prompt.id, model="starter", adapter="mine")
    assert reply.writing
    assert (reply.instance, reply.finish_reason) == (store.instance_id, None)
    assert store.chat(chat.id).leaf_id == reply.id

    store.flush_reply(reply.id, "Hel")
    assert store.message(reply.id).content == "Hel"
    finished = store.finish_reply(reply.id, "Hello.", "length", {"generated_tokens": 3})
    assert (finished.content, finished.finish_reason) == ("Hello.", "length")
    assert (finished.writing, finished.usage) == (False, {"generated_tokens": 3})
    assert (finished.model, finished.adapter) == ("starter", "mine")


@pytest.mark.parametrize("reason", REPLY_ENDS)
def test_a_reply_ends_once(store: ChatStore, reason: ReplyEnd) -> None:
    chat = store.new_chat()
    reply = store.begin_reply(chat.id, None, model=None)
    assert store.finish_reply(reply.id, "text", reason).finish_reason == reason
    with pytest.raises(MessageNotFound, match="not being written here"):
        store.finish_reply(reply.id, "other text", "stop")
    with pytest.raises(MessageNotFound, match="not being written here"):
        store.flush_reply(reply.id, "other text")
    assert store.message(reply.id).content == "text"


def test_a_reply_whose_chat_was_deleted_in_another_window_says_so(
    home: Path, store: ChatStore
) -> None:
    chat = store.new_chat()
    reply = store.begin_reply(chat.id, None, model=None)
    other = ChatStore.open(home)
    other.delete_chat(chat.id)
    other.close()
    with pytest.raises(MessageNotFound, match="another window"):
        store.flush_reply(reply.id, "text")


def test_nothing_flushed_is_lost_when_the_program_is_killed(
    home: Path, other_instance: Callable[[str], Child]
) -> None:
    child = other_instance(STREAM)
    for _ in range(20):
        count, reply_id, chat_id = child.line().split()
    child.kill()

    store = ChatStore.open(home)
    reply = store.message(reply_id)
    assert reply.content.split()[: int(count) + 1] == [str(i) for i in range(int(count) + 1)]
    assert (reply.finish_reason, reply.writing) == ("interrupted", False)
    assert [message.role for message in store.branch(chat_id)] == ["user", "assistant"]
    assert {hit.message_id for hit in store.search(count)} == {reply_id}
    store.close()


def test_recovery_leaves_the_reply_of_a_living_instance_alone(
    home: Path, other_instance: Callable[[str], Child]
) -> None:
    living, dying = other_instance(STREAM), other_instance(STREAM)
    _, living_reply, _ = living.line().split()
    _, dying_reply, _ = dying.line().split()
    dying.kill()

    store = ChatStore.open(home)
    assert store.message(dying_reply).finish_reason == "interrupted"
    assert store.message(living_reply).writing
    before = len(store.message(living_reply).content.split())
    while int(living.line().split()[0]) < before:
        pass  # the pipe may hold lines of long ago
    assert len(store.message(living_reply).content.split()) > before

    living.kill()
    assert store.recover() == 1
    assert store.message(living_reply).finish_reason == "interrupted"
    assert store.recover() == 0
    store.close()


def test_two_instances_see_what_the_other_does(
    store: ChatStore, other_instance: Callable[[str], Child]
) -> None:
    chat = store.new_chat()
    child = other_instance(
        "for line in sys.stdin:\n"
        "    store.add_message(line.strip(), None, 'user', 'from over there')\n"
        "    print(len(store.chats()), flush=True)\n"
    )
    version = store.data_version()
    store.add_message(chat.id, None, "user", "mine")
    assert store.data_version() == version, "one's own writing is no news"
    print(chat.id, file=child.stdin, flush=True)
    assert child.line() == "1"
    assert store.data_version() != version
    assert [message.content for message in store.branch(chat.id)] == ["from over there"]


def test_instances_that_open_a_new_home_at_once_all_succeed(
    other_instance: Callable[[str], Child],
) -> None:
    children = [
        other_instance("store.new_chat(); print('ok', flush=True); sys.stdin.read()")
        for _ in range(4)
    ]
    assert [child.line() for child in children] == ["ok"] * 4


def test_closed_and_dead_instances_leave_nothing_behind(
    home: Path, other_instance: Callable[[str], Child]
) -> None:
    child = other_instance("print('ready', flush=True); sys.stdin.read()")
    assert child.line() == "ready"
    assert len(list((home / "instances").glob("*.lock"))) == 1
    child.kill()
    store = ChatStore.open(home)
    assert [path.stem for path in (home / "instances").glob("*.lock")] == [store.instance_id]
    store.close()
    assert list((home / "instances").glob("*.lock")) == []
    assert sorted(path.name for path in home.iterdir()) == ["chats.db", "instances"]
