"""What a person who judges sees, and what their keys do: all but the terminal itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from openchat_local.app.cli.eval_compare_view import SIDE_BY_SIDE, page_of, painted
from openchat_local.app.cli.eval_compare_vote import GUARD, Booth
from openchat_local.finetune.evaluation.compare.ballot import Ballot
from openchat_local.finetune.evaluation.compare.pairs import Answer, Pair, pair_up
from openchat_local.finetune.evaluation.compare.prompt_rows import Prompt
from openchat_local.finetune.evaluation.rows import RowFile
from openchat_local.models.conversation import Message

TEXTS = st.text(max_size=60) | st.text("ab \n\t中👍🏽\u200d\x1b[2J\x07\r\u202e", max_size=200)


class Clock:
    """Time that passes when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def pairs_of(*answers: tuple[str, str], category: str = "") -> list[Pair]:
    asked = [
        Prompt(line, "", category, (Message("user", f"question {line}"),))
        for line in range(1, len(answers) + 1)
    ]
    a, b = (
        {one.digest: (Answer(text, 1),) for one, text in zip(asked, texts, strict=True)}
        for texts in zip(*answers, strict=True)
    )
    return pair_up(asked, a, b, ("one", "two"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ballot(tmp_path: Path) -> Ballot:
    return Ballot(pairs_of(*((f"A{n}", f"B{n}") for n in range(6))), RowFile(tmp_path / "votes"))


@pytest.fixture
def booth(ballot: Ballot, clock: Clock) -> Booth:
    return Booth(ballot, (80, 24), clock)


def press(booth: Booth, clock: Clock, *keys: str) -> None:
    """Each key by itself, by somebody who has read the page."""
    for key in keys:
        clock.now += GUARD + 0.01
        booth.press([key])


def votes(ballot: Ballot) -> list[str | None]:
    return [ballot.vote_on(pair) for pair in ballot.pairs]


def plain(lines: list[str]) -> str:
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", "\n".join(lines))


def test_every_key_is_its_vote(booth: Booth, ballot: Ballot, clock: Clock) -> None:
    press(booth, clock, "1", "2", "t", "b", "s", "x", "enter", "3", "1")
    assert votes(ballot) == ["first", "second", "tie", "both bad", "skip", "first"]
    assert booth.end is None  # the last may have been a mistake
    press(booth, clock, "u", "2", "enter")
    assert votes(ballot)[-1] == "second"
    assert booth.end == "done"


def test_a_vote_is_taken_back_and_given_again(booth: Booth, ballot: Ballot, clock: Clock) -> None:
    press(booth, clock, "u", "1", "1", "u", "u", "2")
    assert votes(ballot) == ["second", *[None] * 5]
    assert "2 of 6 · the vote before: 2" in plain(booth.lines())


def test_keys_that_come_before_anybody_can_have_read_do_not_vote(
    booth: Booth, ballot: Ballot, clock: Clock
) -> None:
    booth.press(["1"])
    assert ballot.done == 0
    press(booth, clock, "1")
    assert ballot.done == 1
    booth.press(["1"])  # the key bounced
    clock.now += GUARD - 0.01
    booth.press(["2"])  # too early as well, and the time begins again
    clock.now += GUARD - 0.01
    booth.press(["2"])
    assert ballot.done == 1
    press(booth, clock, "2")
    assert votes(ballot)[:2] == ["first", "second"]


@pytest.mark.parametrize("delay", [0.25, 0.5, 0.66])
def test_a_key_that_is_held_down_votes_once(
    booth: Booth, ballot: Ballot, clock: Clock, delay: float
) -> None:
    press(booth, clock, "1")
    clock.now += delay
    for _ in range(100):
        clock.now += 0.03
        booth.press(["1"])
    assert ballot.done == 1


def test_a_paste_votes_for_nothing(booth: Booth, ballot: Ballot, clock: Clock) -> None:
    clock.now += 10
    booth.press([*"12tbs"])
    clock.now += GUARD - 0.01
    booth.press(["1"])
    assert ballot.done == 0


def test_one_can_always_leave(booth: Booth, ballot: Ballot, clock: Clock) -> None:
    booth.press(["q"])
    assert booth.end == "stopped"
    other = Booth(ballot, (80, 24), clock)
    other.press(["x", "ctrl+c"])
    assert other.end == "interrupted"


def test_the_keys_are_named_once_they_count(booth: Booth, clock: Clock) -> None:
    assert "1 or 2 is better" not in plain(booth.lines())
    clock.now += GUARD
    assert "1 or 2 is better · t tie · b both bad · s skip · u undo · q stop" in plain(
        booth.lines()
    )


def test_a_long_page_is_scrolled_and_the_next_begins_at_its_top(
    tmp_path: Path, clock: Clock
) -> None:
    long = "\n".join(f"line {number}" for number in range(50))
    ballot = Ballot(pairs_of((long, "x"), (long, "y")), RowFile(tmp_path / "votes"))
    booth = Booth(ballot, (80, 24), clock)
    seen = set()
    for _ in range(6):
        seen |= set(plain(booth.lines()).split("\n"))
        booth.press(["space"])
    assert {f"line {number}" for number in range(50)} <= seen
    assert "more lines" not in plain(booth.lines())
    bottom = booth.lines()
    booth.press(["down"])
    assert booth.lines() == bottom
    for key in ("home", "end", "up", "pageup", "k", "j", "pagedown"):
        booth.press([key])
        assert len(booth.lines()) == 24
    press(booth, clock, "1")
    assert "question 2" in plain(booth.lines())


def test_another_size_is_another_page(booth: Booth) -> None:
    for size in ((120, 50), (200, 10), (20, 5), (80, 24), (1, 1)):
        booth.resize(size)
        lines = booth.lines()
        assert len(lines) == min(size[1], len(lines))
        assert ("│" in plain(lines)) == (size[0] >= SIDE_BY_SIDE)


def test_both_turns_are_read_one_after_the_other() -> None:
    asked = [Prompt(1, "", "", (Message("system", "Be kind."), Message("user", "Q1")), ("Q2",))]
    a, b = ({asked[0].digest: (Answer(f"{x}1", 1), Answer(f"{x}2", 1, cut=True))} for x in "AB")
    (pair,) = pair_up(asked, a, b, ("one", "two"))
    rows = [row.text for row in page_of(pair, 80) if row.text]
    first, second = pair.first[0].text[0], pair.second[0].text[0]
    answers = [("1", first), ("2", second)]
    expected = ["Prompt", "[system] Be kind.", "Q1"]
    expected += [x for n, who in answers for x in (f"── {n} ".ljust(80, "─"), f"{who}1")]
    expected += ["Then", "Q2"]
    expected += [x for n, who in answers for x in (f"── {n} ".ljust(80, "─"), f"{who}2 [cut here]")]
    assert rows == expected


@given(TEXTS, TEXTS, TEXTS, st.integers(12, 220))
def test_whatever_is_said_stays_in_its_place(
    prompt: str, first: str, second: str, columns: int
) -> None:
    asked = Prompt(1, "", "", (Message("user", prompt),))
    pair = Pair(asked, (Answer(first, 1),), (Answer(second, 1),), False, "")
    wide = columns >= SIDE_BY_SIDE
    for row in page_of(pair, columns):
        widths = [cell_len(side) for side in (row.text, row.beside or "")]
        assert widths[0] <= (columns // 2 if wide and row.beside is not None else columns)
        assert widths[1] <= columns // 2
        told = re.sub(r"\x1b\[(0|1|2)?m|\x1b\[\d+G|\x1b\[K", "", painted(row, columns))
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", told)


@given(st.text("abc ", min_size=1, max_size=300), st.sampled_from([20, 80, 100, 160]))
def test_nothing_that_was_said_is_lost(text: str, columns: int) -> None:
    asked = Prompt(1, "", "", (Message("user", "q"),))
    pair = Pair(asked, (Answer(text, 1),), (Answer("z", 1),), False, "")
    shown = "".join(row.text for row in page_of(pair, columns)[3:])
    wanted = text if text.strip() else "(nothing)"
    assert wanted.replace(" ", "") in shown.replace(" ", "").replace("─", "")
