"""How many drafted tokens are worth a place in the batch."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from openchat_local.models.engine.decoding.speculation import MOST_ROWS, RowCosts, Speculation

# Measured: what so many rows cost against one, the 7B shape on a processor with AVX2 and the
# starter on another; and a GPU, on which all that fits is as one.
AVX2 = {1: 1.0, 2: 1.6, 3: 2.3, 4: 2.3, 8: 5.5, 12: 7.6, 16: 7.3, 24: 11.0, 32: 14.0}
STARTER = {1: 1.0, 2: 1.6, 3: 2.2, 4: 2.3, 8: 3.7, 12: 4.9, 16: 6.1, 24: 9.0, 32: 11.5}
GPU = {1: 1.0, 32: 1.4}
SOURCE = random.Random(1).choices(range(2000), k=1500)


def between(table: dict[int, float], rows: int) -> float:
    below = max(size for size in table if size <= rows)
    above = min(size for size in table if size >= rows)
    if below == above:
        return table[rows]
    return table[below] + (table[above] - table[below]) * (rows - below) / (above - below)


class Machine:
    """Replies whose tokens are known, on a machine whose batches take so long."""

    def __init__(self, table: dict[int, float], one: float = 0.005) -> None:
        self.costs = RowCosts()
        self.sizes: Counter[int] = Counter()
        self.drafted = self.accepted = 0
        self._table, self._one = table, one

    def reply(
        self,
        prompt: Sequence[int],
        reply: Sequence[int],
        disturbed: Callable[[int], float] = lambda batch: 1.0,
    ) -> float:
        """Tokens for the time of one row, as compared with plain decoding."""
        self.drafted = self.accepted = 0
        speculation = Speculation(self.costs, prompt)
        self.sizes.clear()
        at, spent = 0, 0.0
        while at < len(reply):
            speculation.follow([reply[at]])
            at += 1
            drafts = speculation.draft(len(reply) - at)
            rows = 1 + len(drafts)
            self.drafted += len(drafts)
            cost = between(self._table, rows)
            spent += cost
            self.sizes[rows] += 1
            self.costs.observe(rows, cost * self._one * disturbed(self.sizes.total()))
            for draft in drafts:
                if at == len(reply) or draft != reply[at]:
                    break
                speculation.follow([draft])
                self.accepted += 1
                at += 1
        return len(reply) / spent


@pytest.mark.parametrize("table", [AVX2, STARTER, GPU])
def test_a_copy_comes_nearly_as_fast_as_the_best_size_allows(table: dict[int, float]) -> None:
    machine = Machine(table)
    ceiling = max(rows / between(table, rows) for rows in range(1, MOST_ROWS + 1))
    machine.reply(SOURCE, SOURCE)  # finds out what the sizes cost
    assert machine.reply(SOURCE, SOURCE) > 0.9 * ceiling
    assert machine.accepted > 0.95 * machine.drafted


@pytest.mark.parametrize("table", [AVX2, STARTER])
def test_where_nothing_repeats_nothing_is_drafted(table: dict[int, float]) -> None:
    other = [token + 2000 for token in SOURCE]
    machine = Machine(table)
    assert machine.reply(SOURCE, other) == pytest.approx(1.0)
    assert machine.drafted == 0


def test_what_only_seems_to_repeat_is_soon_left_alone() -> None:
    # Pairs that occurred before, each time with another token after them.
    draw = random.Random(2)
    tricky = [token for _ in range(1500) for token in (*SOURCE[20:22], draw.randrange(5000, 9000))]
    assert Machine(STARTER).reply(SOURCE, tricky) > 0.985


def test_a_size_that_is_bad_on_this_machine_is_left_out() -> None:
    machine = Machine(AVX2)
    machine.reply(SOURCE, SOURCE)
    machine.reply(SOURCE, SOURCE)
    good = machine.sizes[16] + machine.sizes[32]
    assert machine.sizes[8] + machine.sizes[12] <= 4 < good


def test_small_changes_break_a_copy_off_and_it_goes_on() -> None:
    changed = list(SOURCE)
    for at in (200, 500, 900, 1300):
        changed[at : at + 2] = [5000 + at]
    machine = Machine(STARTER)
    machine.reply(SOURCE, SOURCE)
    assert machine.reply(SOURCE, changed) > 2.0
    assert machine.accepted > 0.85 * len(changed)


def test_one_disturbed_batch_decides_nothing() -> None:
    machine = Machine(STARTER)
    machine.reply(SOURCE, SOURCE)
    speed = machine.reply(SOURCE, SOURCE, lambda batch: 30.0 if batch % 10 == 0 else 1.0)
    assert speed > 2.0


def test_a_machine_that_became_slower_altogether_still_drafts() -> None:
    machine = Machine(STARTER)
    machine.reply(SOURCE, SOURCE)
    assert machine.reply(SOURCE, SOURCE, lambda batch: 4.0) > 2.0


def test_what_was_too_dear_once_is_tried_again_in_later_replies() -> None:
    costs = RowCosts()
    for _ in range(5):
        costs.observe(1, 0.01)
        costs.observe(16, 0.5)
    assert costs.cost(16) == pytest.approx(50)
    for _ in range(20):
        costs.relax()
    assert costs.cost(16) < 8


def test_a_disturbed_minute_is_forgotten_after_a_few_replies() -> None:
    costs = RowCosts()
    for _ in range(3):
        costs.observe(1, 0.01)
    for ratio in (4.1, 45, 45, 45, 4.2):
        costs.observe(8, ratio * 0.01)
    assert costs.cost(8) == pytest.approx(45)
    for _ in range(3):
        costs.relax()
    assert costs.cost(8) < 4.5
    costs.relax()
    assert costs.measured()[8] < 4.5


def test_fewer_rows_cost_no_more_than_were_measured_for_more() -> None:
    costs = RowCosts()
    for _ in range(4):
        costs.observe(1, 0.01)
        costs.observe(8, 0.011)
    assert costs.cost(2) == pytest.approx(1.1)
    assert costs.cost(8) == pytest.approx(1.1)
    assert costs.cost(16) < 2.0  # they are cheap here: more are worth a try
    assert costs.measured() == {8: pytest.approx(1.1)}


def ready() -> RowCosts:
    costs = RowCosts()
    for _ in range(3):
        costs.observe(1, 0.01)
    return costs


def test_no_more_is_drafted_than_there_is_room_for() -> None:
    for most in range(MOST_ROWS + 4):
        speculation = Speculation(ready(), [*SOURCE, 1, *SOURCE[:40]])
        drafts = speculation.draft(most)
        assert drafts == SOURCE[40 : 40 + len(drafts)]
        assert len(drafts) <= min(most, MOST_ROWS - 1)


def test_beside_other_replies_less_is_drafted_and_beside_many_nothing() -> None:
    drafted = [
        len(Speculation(ready(), [*SOURCE, 1, *SOURCE[:40]]).draft(31, beside=beside))
        for beside in (0, 1, 3, 7, 31)
    ]
    assert drafted[0] >= 7
    assert drafted[-1] == 0
    assert all(
        1 + beside + count <= MOST_ROWS
        for beside, count in zip((0, 1, 3, 7, 31), drafted, strict=True)
    )


def test_a_batch_never_takes_longer_than_others_can_wait() -> None:
    def drafted(longest: float) -> int:
        speculation = Speculation(ready(), [*SOURCE, 1, *SOURCE[:40]])
        return len(speculation.draft(31, longest=longest))

    assert drafted(0.01) == 0  # what one row takes
    assert drafted(0.03) == 3
    assert drafted(0.2) > drafted(0.03)


def test_before_one_row_was_measured_nothing_is_drafted() -> None:
    assert Speculation(RowCosts(), [*SOURCE, 1, *SOURCE[:40]]).draft(31) == []


def test_a_reply_that_is_gone_on_from_follows_what_it_was_before_it_was_edited() -> None:
    prompt = [1, 2, 3]
    begun = [*SOURCE[:50], 7, 8]  # the end was rewritten
    speculation = Speculation(ready(), prompt + begun, begun=begun, likely=SOURCE)
    speculation.follow([SOURCE[52]])
    speculation.follow([SOURCE[53]])
    speculation.follow([SOURCE[54]])
    speculation.follow([SOURCE[55]])
    speculation.follow([SOURCE[56]])
    drafts = speculation.draft(31)
    assert drafts
    assert drafts == SOURCE[57 : 57 + len(drafts)]
