"""Pairs that are compared blind, on disk: whoever dies, and who may know what before the vote."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore, Side, StoredMessage, Vote
from openchat_local.app.chats.formats import export_chat
from openchat_local.app.chats.votes import AlreadyVoted, Choice
from openchat_local.app.chats.who_wrote import who_wrote

SIDES = (
    Side("mine", "starter", "mine", 0.5, "Expert", "m0", "a1"),
    Side("starter", "starter", model_digest="m0"),
)
Pair = tuple[Vote, StoredMessage, StoredMessage]


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    store = ChatStore.open(home)
    yield store
    store.close()


def begun(store: ChatStore, **chat: bool) -> Pair:
    chat_id = store.new_chat(**chat).id
    prompt = store.add_message(chat_id, None, "user", "Which one?")
    return store.begin_pair(chat_id, prompt.id, SIDES, sampling={"seed": 7})


def written(store: ChatStore, **chat: bool) -> Pair:
    vote, first, second = begun(store, **chat)
    return (
        vote,
        store.finish_reply(first.id, "The first.", "stop", usage={"reused_tokens": 3}),
        store.finish_reply(second.id, "The second.", "stop"),
    )


def test_both_have_their_origin_on_disk_from_the_start_and_nobody_tells_it(
    store: ChatStore,
) -> None:
    vote, first, second = begun(store)
    assert (vote.first, vote.second, vote.choice) == (*SIDES, None)
    assert [first.adapter, second.adapter] == ["mine", None]
    assert [first.condition, second.condition] == ["Expert", ""]
    assert first.sampling == second.sampling == {"seed": 7}
    assert (first.parent_id, first.siblings) == (second.parent_id, 2)
    assert [who_wrote(first), who_wrote(second)] == [None, None]
    assert store.chat(vote.chat_id).leaf_id == first.id
    assert "mine" not in export_chat(store, vote.chat_id, "markdown", "all")
    assert store.pair_of(second.id) == vote
    assert store.votes() == []


@pytest.mark.parametrize(
    ("choice", "shown", "outcomes"),
    [
        ("first", "The first.", ("chosen", "other")),
        ("second", "The second.", ("other", "chosen")),
        ("tie", "The first.", ("tie", "tie")),
        ("bad", "The first.", ("bad", "bad")),
        ("skip", "The first.", ("skip", "skip")),
    ],
)
def test_a_vote_chooses_what_the_chat_goes_on_with(
    store: ChatStore, choice: Choice, shown: str, outcomes: tuple[str, str]
) -> None:
    vote, first, second = written(store)
    store.rate(second.id, 1)
    cast = store.vote(vote.id, choice)
    assert store.branch(vote.chat_id)[-1].content == shown
    now = [store.message(each.id) for each in (first, second)]
    assert tuple(each.vote for each in now) == outcomes
    assert [str(who_wrote(each)) for each in now] != ["None", "None"]
    # Both bad is a rating, but none that the user gave is taken back.
    assert [each.rating for each in now] == [-1 if choice == "bad" else None, 1]
    assert store.votes() == [cast]
    with pytest.raises(AlreadyVoted):
        store.vote(vote.id, "tie")
    assert store.votes() == [cast]


def test_a_program_that_dies_between_reply_and_vote_leaves_the_vote_to_be_cast(
    home: Path,
) -> None:
    dead = ChatStore.open(home)
    vote, first, _ = written(dead)
    dead._instance.close()  # as the system does when it ends
    store = ChatStore.open(home)
    assert store.message(first.id).vote == "unvoted"
    assert store.vote(vote.id, "second").choice == "second"
    store.close()


DIES = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_votes import begun
from openchat_local.app.chats import ChatStore
store = ChatStore.open(Path({home!r}))
_, first, second = begun(store)
store.flush_reply(first.id, "The fir")
store.finish_reply(second.id, "The second.", "stop")
os.kill(os.getpid(), signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
"""


def test_a_program_that_dies_in_mid_pair_leaves_two_replies_and_no_vote(home: Path) -> None:
    code = DIES.format(folder=str(Path(__file__).parent), home=str(home))
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode != 0
    store = ChatStore.open(home)
    (chat,) = store.chats()
    prompt, first, second = store.messages(chat.id)
    assert (first.content, first.finish_reason, first.vote) == ("The fir", "interrupted", None)
    assert (second.content, second.vote) == ("The second.", None)
    assert {first.parent_id, second.parent_id} == {prompt.id}
    assert who_wrote(first) is not None
    assert store.pair_of(first.id) is None
    store.close()


def test_votes_go_with_their_chat_and_stay_in_this_home(store: ChatStore) -> None:
    vote, *_ = written(store, private=True)
    store.vote(vote.id, "first")
    assert [each.first for each in store.votes()] == [SIDES[0]]
    assert "The first." not in str([asdict(each) for each in store.votes()])
    assert "chosen" not in export_chat(store, vote.chat_id, "json")
    store.hide_chat(vote.chat_id)
    assert store.votes() == []
    store.unhide_chat(vote.chat_id)
    assert len(store.votes()) == 1
    store.delete_chat(vote.chat_id)
    assert store.votes() == []
    other, first, second = written(store)
    store.drop_pair(other.id)
    assert [store.message(each.id).vote for each in (first, second)] == [None, None]
    assert (
        store.add_vote(other.chat_id, other.prompt_id, SIDES, (first.id, second.id), "tie")
        in store.votes()
    )
