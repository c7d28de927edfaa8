"""What is left out of a chat that outgrew its context, and that it is never too much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.context_window import Overflow, fit, surely_fits
from openchat_local.models.errors import ContextOverflow

ROLES = ("user", "assistant")


def count(conversation: Conversation) -> int:
    """A tokenizer of four characters a token, with headers of three tokens."""
    return 3 + sum(3 + -(-len(turn.content) // 4) for turn in conversation.messages)


def chat(*lengths: int, system: int = 0) -> Conversation:
    turns = [Message(ROLES[n % 2], chr(97 + n % 26) * size) for n, size in enumerate(lengths)]
    if system:
        turns.insert(0, Message("system", "s" * system))
    return Conversation(tuple(turns), "GPT4")


def test_a_chat_that_fits_is_left_alone() -> None:
    conversation = chat(40, 40, 40, system=20)
    fitted = fit(conversation, 500, count, "drop-oldest")
    assert (fitted.conversation, fitted.left_out) == (conversation, 0)
    assert fitted.tokens == count(conversation)


def test_the_oldest_turns_go_and_the_system_prompt_stays() -> None:
    conversation = chat(*[400] * 21, system=40)
    fitted = fit(conversation, 1000, count, "drop-oldest")
    kept = fitted.conversation.messages
    assert kept[0] == conversation.messages[0]
    assert kept[1:] == conversation.messages[1 + fitted.left_out :]
    assert kept[1].role == "user"
    assert fitted.tokens == count(fitted.conversation) <= 750
    assert fitted.conversation.condition == "GPT4"


def test_refusing_says_by_how_much() -> None:
    with pytest.raises(ContextOverflow, match=r"2,1\d\d tokens.*1,000.*drop-oldest"):
        fit(chat(*[400] * 21), 1000, count, "refuse")
    assert fit(chat(400), 1000, count, "refuse").left_out == 0


@pytest.mark.parametrize("overflow", ["drop-oldest", "refuse"])
def test_a_prompt_that_is_too_long_alone_is_refused(overflow: Overflow) -> None:
    with pytest.raises(ContextOverflow, match="shorten"):
        fit(chat(10, 10, 5000, system=40), 1000, count, overflow)


def test_room_for_the_reply_gives_way_to_the_last_prompt() -> None:
    fitted = fit(chat(400, 400, 3600), 1000, count, "drop-oldest")
    assert fitted.left_out == 2
    assert 750 < fitted.tokens < 1000


def test_a_short_reply_needs_less_room() -> None:
    conversation = chat(*[400] * 9)
    assert fit(conversation, 1000, count, "drop-oldest", reply_tokens=10).left_out == 0
    assert fit(conversation, 1000, count, "drop-oldest").left_out > 0


def test_the_same_turns_are_missing_from_the_next_prompts_too() -> None:
    """Every change of what is left out costs the evaluation of the whole prompt."""
    left_out = [
        fit(chat(*[200] * turns), 2000, count, "drop-oldest").left_out for turns in range(1, 301, 2)
    ]
    assert left_out == sorted(left_out)
    assert len(set(left_out)) < 35


def test_a_long_chat_is_not_counted_whole() -> None:
    counted: list[int] = []

    def noting(conversation: Conversation) -> int:
        counted.append(len(conversation.messages))
        return count(conversation)

    fit(chat(*[400] * 4001), 1000, noting, "drop-oldest")
    assert sum(counted) < 200


@given(st.lists(st.integers(1, 900), min_size=1, max_size=60), st.integers(0, 200))
def test_what_is_left_fits_and_the_last_turn_is_there(lengths: list[int], system: int) -> None:
    conversation = chat(*lengths, system=system)
    fitted = fit(conversation, 1000, count, "drop-oldest")
    own = 1 if system else 0
    last_user = max(n for n in range(len(lengths)) if n % 2 == 0)
    assert fitted.left_out <= last_user
    assert fitted.conversation.messages[own:] == conversation.messages[own + fitted.left_out :]
    assert fitted.tokens < 1000
    assert fitted.left_out == 0 or count(conversation) > 750


@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=20),
    st.integers(0, 200),
    st.sampled_from(["drop-oldest", "refuse"]),
)
def test_what_surely_fits_is_never_refused(
    lengths: list[int], system: int, overflow: Overflow
) -> None:
    conversation = chat(*lengths, system=system)
    if surely_fits(conversation, 1000, overflow):
        assert fit(conversation, 1000, worst_count, overflow).tokens < 1000


def worst_count(conversation: Conversation) -> int:
    """A tokenizer of one byte a token, with headers of 20 tokens."""
    return 20 + sum(20 + len(turn.content) for turn in conversation.messages)


def test_only_what_has_to_stay_is_looked_at() -> None:
    long = chat(*[400] * 21, system=40)
    assert surely_fits(long, 1000, "drop-oldest")
    assert not surely_fits(long, 1000, "refuse")
    assert not surely_fits(chat(10, 10, 950), 1000, "drop-oldest")
