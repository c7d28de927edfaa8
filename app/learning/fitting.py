"""Rows that a training step can hold: of a long chat, several, without its oldest turns.

What lies beyond the end of a step is not learned, so a reply late in a long chat would be lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from openchat_local.app.learning.lesson import LessonTurn

Turns = tuple[LessonTurn, ...]

# Some 1,500 tokens of any language: bytes of UTF-8 are less far from tokens than characters. A
# step holds 2,048 by default.
LONGEST_ROW = 6_000


def windows(turns: Turns, longest: int) -> Iterator[Turns]:
    """The turns as rows of at most `longest` bytes, in which each learned reply is learned once;
    a row begins with a prompt, and one exchange is never cut. All of them in one where they fit.
    """
    learned = [place for place, turn in enumerate(turns) if turn.weight is None]
    while learned:
        start, taken = _exchange(turns, learned[0]), learned[:1]
        for place in learned[1:]:
            if _size(turns[start : place + 1]) > longest:
                break
            taken.append(place)
        learned = learned[len(taken) :]
        row = turns[: taken[-1] + 1]
        own = {turns[place].message_id for place in taken}
        yield cut_to(
            tuple(turn if turn.message_id in own else replace(turn, weight=0.0) for turn in row),
            longest,
            start,
        )


def cut_to(turns: Turns, longest: int, start: int | None = None) -> Turns:
    """The turns without the oldest, from a prompt on, so that they take no more than `longest`
    bytes; none from `start` on (default: from the last prompt) is left out."""
    last = _exchange(turns, len(turns) - 1) if start is None else start
    size = _size(turns[last:])
    begin = last
    for place in range(last - 1, -1, -1):
        size += _size(turns[place : place + 1])
        if size > longest:
            break
        if turns[place].role == "user" or place == 0:
            begin = place
    return turns[begin:]


def _exchange(turns: Turns, place: int) -> int:
    """Where the prompt stands that the turn at `place` answers, or is."""
    return next((at for at in range(place, -1, -1) if turns[at].role == "user"), 0)


def _size(turns: Turns) -> int:
    return sum(len(turn.content.encode("utf-8", "surrogatepass")) for turn in turns)
