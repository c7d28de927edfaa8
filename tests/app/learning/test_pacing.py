"""Two streams at one pace: what is shown says nothing of who was quicker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openchat_local.app.learning.pacing import BURST_SECONDS, FEWEST, Pacing

Piece = tuple[float, int]
"""Seconds since the piece before, and the tokens in it."""

_PIECES = st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(0, 7)), max_size=30)
Shown = list[tuple[float, int, str, str]]


def texts(pieces: list[Piece], letter: str) -> list[str]:
    """Two characters a token, numbered so that order matters; of no token one."""
    return [
        f"{letter}{number % 10}" * tokens or letter for number, (_, tokens) in enumerate(pieces)
    ]


def shown(first: list[Piece], second: list[Piece], every: float = 0.25) -> tuple[Pacing, Shown]:
    """What is shown, asked for at regular times, of two streams that come as they say."""
    events: list[tuple[float, int, str, int]] = []
    for side, pieces in enumerate((first, second)):
        at = 0.0
        for text, (wait, tokens) in zip(texts(pieces, "ab"[side]), pieces, strict=True):
            at += wait
            events.append((at, side, text, tokens))
        events.append((at, side, "", -1))
    events.sort(key=lambda event: event[0])
    pacing, at = Pacing(), 0.0
    one = two = ""
    seen: Shown = []
    while not pacing.over:
        while events and events[0][0] <= at:
            when, side, text, tokens = events.pop(0)
            pacing.finish(side, when) if tokens < 0 else pacing.take(side, text, tokens)
        more = pacing.release(at)
        one, two = one + more[0], two + more[1]
        seen.append((at, pacing.shown, one, two))
        at += every
    return pacing, seen


@given(_PIECES, _PIECES)
def test_at_every_moment_both_are_shown_up_to_the_same_token(
    first: list[Piece], second: list[Piece]
) -> None:
    _, seen = shown(first, second)
    for _, token, one, two in seen:
        for text, pieces in ((one, first), (two, second)):
            total = sum(tokens for _, tokens in pieces)
            written = sum(character.isdigit() for character in text)
            assert written == min(token, total)
    assert (seen[-1][2], seen[-1][3]) == ("".join(texts(first, "a")), "".join(texts(second, "b")))


@given(_PIECES, _PIECES)
def test_what_is_shown_when_is_the_same_for_either_order(
    first: list[Piece], second: list[Piece]
) -> None:
    _, one = shown(first, second)
    _, other = shown(second, first)
    assert [moment[:2] for moment in one] == [moment[:2] for moment in other]


@given(st.integers(FEWEST, 40), st.floats(0.02, 0.06), st.floats(1.0, 4.0), st.integers(1, 60))
def test_the_end_of_the_longer_one_comes_as_fast_whichever_was_quicker(
    short: int, beat: float, slower: float, rest: int
) -> None:
    """The quicker one has a lead that would come at once when the other ends; the slower one
    would be written faster alone."""
    slow = [(beat * slower, 1)] * short
    quick_is_longer = shown([(beat, 1)] * (short + rest), slow, 0.01)[1]
    slow_is_longer = shown([(beat, 1)] * short, [*slow, *[(beat, 1)] * rest], 0.01)[1]
    for seen in (quick_is_longer, slow_is_longer):
        before = [moment for moment in seen if 0 < moment[1] <= short]
        both, took = before[-1], before[-1][0] - before[0][0]
        pace = 1.25 * short / max(took, 0.01)
        for at, token, *_ in seen:
            if token > short:
                assert token - short <= pace * (at - both[0] + BURST_SECONDS) + 2


def test_nothing_is_shown_before_both_have_begun() -> None:
    pacing = Pacing()
    pacing.take(0, "quick as can be", 5)
    assert pacing.release(9.0) == ("", "")
    pacing.take(1, "slow", 1)
    assert pacing.release(10.0) == ("qui", "slow")
