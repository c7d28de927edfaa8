"""From nats of conversations to losses, changes and what these are worth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.finetune.evaluation.losses.figures import Cell, cells_of, change_between
from openchat_local.finetune.evaluation.losses.report import (
    own_cell,
    sentences_of,
    summary_row,
    table_of,
    verdict,
)
from openchat_local.models.library.adapter_file import AdapterCard, TrainedClass


@pytest.fixture
def answers(read: Callable[..., Answers]) -> Answers:
    return read()


def nats(answers: Answers, *, expert: float = 0.0, spread: float = 0.0) -> dict[str, np.ndarray]:
    """Two nats a token, and `expert` more under the first condition, give or take `spread`."""
    wave = np.array([1.0, -1.0, 1.0, 1.0])
    return {
        condition: tokens * (2.0 + (expert + spread * wave) * (condition == "GPT4 Correct"))
        for condition, tokens in answers.tokens.items()
    }


def test_cells_are_the_losses_of_each_class_under_each_condition(answers: Answers) -> None:
    cells = cells_of(answers, nats(answers), {"mine": nats(answers, expert=-0.5)})
    conditions = ("GPT4 Correct", "GPT3")
    assert [(cell.class_name, cell.condition) for cell in cells] == [
        (name, condition) for name in ("gpt4", "gpt35") for condition in conditions
    ]
    for cell in cells:
        own = answers.classes == (cell.class_name == "gpt35")
        assert cell.conversations == own.sum()
        assert cell.tokens == answers.tokens[cell.condition][own].sum()
        assert cell.base_loss == pytest.approx(2.0)
        assert cell.base_perplexity == pytest.approx(np.exp(2.0))
        lower = 0.5 * (cell.condition == "GPT4 Correct")
        assert cell.change_of("mine").loss == pytest.approx(2.0 - lower)
        assert cell.change_of("mine").change == pytest.approx(-lower)


def test_the_standard_error_is_that_of_the_change_between_conversations() -> None:
    random = np.random.default_rng(0)
    tokens = random.integers(5, 50, 12).astype(float)
    before = tokens * random.uniform(1, 3, 12)
    after = before + tokens * random.normal(-0.1, 0.2, 12)
    found = change_between("mine", before, after, tokens)
    change = after - before
    residuals = change - change.sum() / tokens.sum() * tokens
    variance = 12 / 11 * (residuals**2).sum() / tokens.sum() ** 2
    assert found.standard_error == pytest.approx(np.sqrt(variance))
    assert found.interval is not None
    # Two ways to the same spread: 1.96 standard errors either way, for these few roughly.
    half = (found.interval.high - found.interval.low) / 2
    assert half == pytest.approx(1.96 * found.standard_error, rel=0.25)
    assert found.interval.low < found.change < found.interval.high


def test_intervals_of_paired_changes_hold_the_true_one_as_often_as_they_say() -> None:
    """Files of 60 conversations, hard and easy ones, of which an adapter takes 0.1 nats a token,
    more of long ones; what differs between conversations is ten times as much."""
    random = np.random.default_rng(4)
    held, files = 0, 200
    for _ in range(files):
        tokens = random.integers(10, 200, 60).astype(float)
        before = tokens * random.uniform(1, 4, 60)
        effect = -0.1 + random.normal(0, 0.1, 60)
        change = change_between("mine", before, before + tokens * effect, tokens)
        assert change.interval is not None
        held += change.interval.low <= -0.1 <= change.interval.high
    # 95 % of 200, give or take three standard deviations.
    assert 0.95 - 0.047 <= held / files <= 0.95 + 0.047


def test_one_conversation_has_no_interval_and_says_so(answers: Answers) -> None:
    cells = cells_of(answers, nats(answers), {"mine": nats(answers, expert=-0.5)})
    single = cells[2]
    (change,) = single.changes
    assert (single.conversations, change.interval, change.standard_error) == (1, None, 0)
    assert "one conversation" in verdict(single, change)
    assert "nothing of others" in verdict(single, change)
    table = table_of(cells)
    assert "One conversation has no interval." in table.note
    assert table.rows[5][-1] == "–"
    assert summary_row(single)["interval"] is None


def test_each_contender_has_its_sentence(answers: Answers) -> None:
    found = {
        "base": nats(answers),
        "good": nats(answers, expert=-0.5, spread=0.01),
        "bad": nats(answers, expert=0.5, spread=0.01),
        "neither": nats(answers, spread=0.1),
    }
    others = {label: one for label, one in found.items() if label != "base"}
    cells = cells_of(answers, found["base"], others)
    cards = dict.fromkeys(others, AdapterCard())
    good, bad, neither, best = sentences_of(answers, found, cells, cards)
    about = "gpt4 answers under the condition 'GPT4 Correct'"
    assert good.startswith(f"good predicts {about} better than the base: -0.")
    assert bad.startswith(f"bad predicts {about} worse than the base, so it did not help: +0.")
    assert neither.startswith("No difference between neither and the base that can be told from")
    assert best.startswith("On these, good is the best, ahead of neither")
    assert "3 conversations, too few to rely on it" in good
    assert "fewer than 10 conversations is too narrow" in table_of(cells).note


def test_an_adapter_is_judged_under_the_condition_that_one_chats_with_it_under(
    answers: Answers,
) -> None:
    cells = cells_of(answers, nats(answers), {"mine": nats(answers)})
    classes = TrainedClass("gpt4", "GPT3", 1.0), TrainedClass("gpt35", "GPT4 Correct", 0.1)
    assert own_cell(cells, AdapterCard(classes)) == cells[1]
    assert own_cell(cells, AdapterCard()) == cells[0]
    unknown = AdapterCard((TrainedClass("gpt4", "Elsewhere", 1.0),))
    assert own_cell(cells, unknown) == cells[0]


def test_rows_for_programs_have_the_single_adapters_figures_by_themselves(
    answers: Answers,
) -> None:
    def first(*labels: str) -> dict[str, object]:
        others = {label: nats(answers, expert=-0.5, spread=0.01) for label in labels}
        cells: list[Cell] = cells_of(answers, nats(answers), others)
        return summary_row(cells[0])

    single = first("mine")
    assert (single["class_name"], single["condition"]) == ("gpt4", "GPT4 Correct")
    assert single["change"] == pytest.approx(single["adapter_loss"] - single["base_loss"])  # type: ignore[operator]
    assert single["adapters"][0]["change"] == single["change"]  # type: ignore[index]
    several = first("mine", "yours")
    assert several["adapter_loss"] is None
    assert [one["label"] for one in several["adapters"]] == ["mine", "yours"]  # type: ignore[attr-defined]
    assert first()["change"] is None
