"""What followed the last tokens where they occurred before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openchat_local.models.engine.decoding.lookup import COUNTED, LONG, PromptLookup

TEXT = list(range(100, 200))  # no token of it occurs twice
FEW_TOKENS = st.lists(st.integers(0, 3), max_size=60)


def test_what_followed_before_is_proposed() -> None:
    lookup = PromptLookup([*TEXT, 1, 2, 3, *TEXT[10:20]])
    assert lookup.propose(4) == TEXT[20:24]
    assert lookup.agreeing == 10


def test_where_nothing_occurred_before_nothing_is_proposed() -> None:
    lookup = PromptLookup(TEXT)
    assert lookup.propose(8) == []
    assert lookup.append(7) is None
    assert lookup.propose(8) == []


def test_two_tokens_are_enough_and_one_is_not() -> None:
    assert PromptLookup([*TEXT, TEXT[40]]).propose(2) == []
    assert PromptLookup([*TEXT, *TEXT[40:42]]).propose(2) == TEXT[42:44]


def test_of_two_places_the_one_with_more_in_common_is_followed() -> None:
    lookup = PromptLookup([*TEXT, *TEXT[50:52], 1, 2, *TEXT[45:52]])
    assert lookup.propose(1) == TEXT[52:53]
    lookup = PromptLookup([*TEXT, *TEXT[50:52], 1, 2, 9, *TEXT[50:52]])
    assert lookup.propose(1) == [1]  # as much in common: the later one


def test_a_copy_goes_on_with_the_text_that_it_began_with() -> None:
    second = [*TEXT[:50], 7, *TEXT[51:]]
    lookup = PromptLookup([*TEXT, *second])
    for token in TEXT[30:49]:
        lookup.append(token)
    assert lookup.propose(2) == [TEXT[49], 7]  # the later text, until it is found to be wrong
    lookup.append(TEXT[49])
    assert lookup.append(TEXT[50]) is False
    for token in TEXT[51:60]:
        lookup.append(token)
    assert lookup.propose(3) == TEXT[60:63]


def test_what_repeats_at_the_end_is_gone_on_with_as_a_period() -> None:
    lookup = PromptLookup([8, 9, *[1, 2, 3] * 3])
    assert lookup.propose(7) == [1, 2, 3, 1, 2, 3, 1]


def test_a_changed_token_costs_a_copy_one_token() -> None:
    lookup = PromptLookup([*TEXT, 1, *TEXT[:30]])
    assert lookup.append(7) is False  # instead of TEXT[30]
    assert lookup.propose(2) == []
    assert lookup.append(TEXT[31]) is None
    assert lookup.propose(2) == TEXT[32:34]


def test_tokens_put_in_and_left_out_cost_a_copy_no_more_than_themselves() -> None:
    put_in = PromptLookup([*TEXT, 1, *TEXT[:30]])
    for token in (7, 8, 9, TEXT[30]):
        put_in.append(token)
    assert put_in.propose(2) == TEXT[31:33]
    left_out = PromptLookup([*TEXT, 1, *TEXT[:30]])
    left_out.append(TEXT[40])
    assert left_out.propose(2) == TEXT[41:43]


def test_a_place_in_the_middle_of_a_change_is_given_up_after_a_while() -> None:
    lookup = PromptLookup([*TEXT, 1, *TEXT[:30]])
    for token in range(1000, 1060):
        lookup.append(token)
    assert lookup.append(TEXT[31]) is None
    assert lookup.propose(2) == []


@given(FEW_TOKENS, FEW_TOKENS)
def test_what_is_proposed_did_follow_as_many_agreeing_tokens_as_said(
    prompt: list[int], reply: list[int]
) -> None:
    lookup = PromptLookup(prompt)
    tokens = list(prompt)
    for token in reply:
        expected = lookup.propose(1)
        came = lookup.append(token)
        tokens.append(token)
        assert came == (expected == [token] if expected else None)
        proposed = lookup.propose(3)
        assert len(proposed) in (0, 3)
        assert bool(proposed) == (lookup.agreeing > 0)
        if proposed:
            last = tokens[len(tokens) - lookup.agreeing :]
            longer = tokens + proposed
            assert any(
                longer[place - len(last) : place + 3] == last + proposed
                for place in range(len(last), len(tokens))
            )


@given(FEW_TOKENS, FEW_TOKENS)
def test_five_tokens_that_occurred_before_are_always_found(
    prompt: list[int], reply: list[int]
) -> None:
    lookup = PromptLookup()
    lookup.extend(prompt)
    tokens = list(prompt)
    for token in reply:
        lookup.append(token)
        tokens.append(token)
        last = tokens[-LONG:]
        earlier = (tokens[at : at + LONG] for at in range(len(tokens) - LONG))
        if len(tokens) > LONG and last in earlier:
            assert LONG <= lookup.agreeing <= COUNTED


@given(st.lists(FEW_TOKENS, max_size=5))
def test_many_at_once_are_found_like_one_by_one(parts: list[list[int]]) -> None:
    at_once, one_by_one = PromptLookup(), PromptLookup()
    for part in parts:
        at_once.extend(part)
    tokens = [token for part in parts for token in part]
    for token in tokens:
        one_by_one.append(token)
    assert len(at_once) == len(one_by_one) == len(tokens)
    for lookup in (at_once, one_by_one):  # neither follows a place from before this
        for token in (9, *tokens[-LONG - 1 :]):
            lookup.append(token)
    assert (at_once.agreeing >= LONG) == (one_by_one.agreeing >= LONG)
