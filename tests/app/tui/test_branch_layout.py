"""Which turns of a branch are laid out, whatever the reader does and however the reply comes."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from openchat_local.app.tui.markdown.branch_layout import MOST_LAID_OUT, OUTSIDE, PAGE, BranchLayout
from openchat_local.app.tui.markdown.layout import Layout
from support.turns import alternating, prompts, reply_to

WIDTH = 40


def showing(count: int, outside: int = 0) -> BranchLayout:
    branch = BranchLayout()
    branch.layout.lay_out(WIDTH)
    branch.show_turns(prompts(count), outside)
    return branch


def rows(layout: Layout) -> list[str]:
    """Every row that is laid out, with the colour of its message."""
    found: list[str] = []
    for row in range(layout.rows):
        place = layout.place(row)
        grey = "grey " if layout.sections[place.section].faded else ""
        found.append(grey + "".join(text for text, _ in layout.runs(place)[0]))
    return found


def laid_out(branch: BranchLayout) -> list[str]:
    return [section.key for section in branch.layout.sections]


def test_the_end_of_a_long_branch_is_laid_out_first() -> None:
    branch = showing(400)
    assert laid_out(branch) == [f"m{number}" for number in range(400 - PAGE, 400)]
    assert branch.shows_end


def test_pages_come_above_and_those_far_below_go() -> None:
    branch = showing(400)
    while branch.first:
        branch.show_older()
        assert len(laid_out(branch)) <= MOST_LAID_OUT
    assert laid_out(branch) == [f"m{number}" for number in range(MOST_LAID_OUT)]
    assert not branch.shows_end
    while not branch.shows_end:
        branch.show_newer()
        assert len(laid_out(branch)) <= MOST_LAID_OUT
    assert laid_out(branch) == [f"m{number}" for number in range(400 - MOST_LAID_OUT, 400)]


def test_a_page_around_a_turn_stays_within_the_branch() -> None:
    branch = showing(50)
    for number, first in ((0, 0), (25, 25 - PAGE // 2), (49, 50 - PAGE)):
        branch.show_page_around(number)
        assert (branch.first, branch.last) == (first, first + PAGE)


def test_the_lowest_turn_on_the_screen_may_begin_above_it() -> None:
    branch = BranchLayout()
    branch.layout.lay_out(WIDTH)
    branch.show_turns(alternating(["one", "long\n\n" * 40, "two"]))
    tops = [branch.span(number)[0] for number in range(3)]
    assert branch.lowest_above(tops[2] + 1) == 2
    assert branch.lowest_above(tops[2]) == 1, "in the middle of the long one"
    assert branch.lowest_above(tops[1]) == 0
    assert branch.lowest_above(0) == 0


def test_a_reply_waits_while_its_end_is_not_laid_out_and_is_then_complete() -> None:
    branch = showing(200)
    branch.begin_reply(reply_to(branch.turns))
    branch.show_first_page()
    branch.add("Here it ")
    branch.add("is.")
    assert branch.show_added() is None
    assert "Here" not in "".join(rows(branch.layout))
    branch.show_last_page()
    branch.show_added()
    assert "Here it is." in rows(branch.layout)


def test_a_reply_that_ends_unseen_is_there_when_its_page_is() -> None:
    branch = showing(200)
    branch.begin_reply(reply_to(branch.turns))
    branch.show_first_page()
    branch.add("Here it is.")
    ended = reply_to(branch.turns[:-1], "Here it is.", instance=None, finish_reason="cancelled")
    assert branch.end_reply(ended) is None
    assert not branch.growing
    branch.show_last_page()
    assert rows(branch.layout)[-3:] == ["Here it is.", "", "— cancelled —"]


def test_a_new_version_takes_the_place_of_everything_below_its_prompt() -> None:
    branch = BranchLayout()
    branch.layout.lay_out(WIDTH)
    branch.show_turns(alternating(["one", "first answer", "two", "second answer"]))
    branch.begin_reply(reply_to(branch.turns[:1], id="other"))
    branch.add("another")
    branch.show_added()
    assert laid_out(branch) == ["m0", "other"]
    assert [row for row in rows(branch.layout) if row] == ["▌ one", "another"]


STEPS: dict[str, Callable[[BranchLayout, int], int | None]] = {
    "older": lambda branch, _: branch.show_older(),
    "newer": lambda branch, _: branch.show_newer(),
    "first page": lambda branch, _: branch.show_first_page(),
    "last page": lambda branch, _: branch.show_last_page(),
    "around": lambda branch, n: branch.show_page_around(n % len(branch.turns)),
    "outside": lambda branch, n: branch.set_outside(n % (len(branch.turns) + 1)),
    "update": lambda branch, n: branch.update_turn(branch.turns[n % len(branch.turns)]),
    "begin": lambda branch, n: begin(branch, n % len(branch.turns)),
    "grow": lambda branch, n: grow(branch, f"word {n}\n\n"),
    "end": lambda branch, _: branch.end_reply(reply_to(branch.turns[:-1], id=branch.turns[-1].id)),
}


def begin(branch: BranchLayout, under: int) -> int:
    parent = branch.turns[under].id
    reply = reply_to(branch.turns, id=f"a reply to {parent}", parent_id=parent)
    return branch.begin_reply(reply)


def grow(branch: BranchLayout, text: str) -> int | None:
    if branch.growing:
        branch.add(text)
    return branch.show_added()


@given(
    st.integers(1, 300),
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 999)), max_size=12),
)
def test_the_sections_are_those_of_the_turns_and_only_what_is_said_has_changed(
    count: int, steps: list[tuple[str, int]]
) -> None:
    branch = showing(count)
    for name, number in steps:
        before = rows(branch.layout)
        changed = STEPS[name](branch, number)
        after = rows(branch.layout)
        if changed is None:
            assert after == before
        else:
            assert after[:changed] == before[:changed]
        assert 0 <= branch.first <= branch.last <= len(branch.turns)
        assert laid_out(branch) == [turn.id for turn in branch.turns[branch.first : branch.last]]
        assert len(laid_out(branch)) <= MOST_LAID_OUT + 1
        lines = [row for row in after if row == f"grey {OUTSIDE}"[:WIDTH] or OUTSIDE[:20] in row]
        told = branch.outside > 0 and branch.shows(branch.outside)
        # A reply has no such line above it while it is written: its prompt is seen.
        assert len(lines) == told or branch.turns[branch.outside].role == "assistant"
