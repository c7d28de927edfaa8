"""Which condition belongs to whom, and what figures are said to mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.evaluation.conditions.figures import (
    Seen,
    answered_by_several,
    differences,
    further_apart,
    own_conditions,
    own_is_together,
    spread,
    trained_conditions,
)
from openchat_local.finetune.evaluation.conditions.places import same_prompts
from openchat_local.finetune.evaluation.conditions.readings import Readings
from openchat_local.finetune.evaluation.conditions.sentences import (
    condition_sentences,
    spread_sentences,
)
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.models.library.adapter_file import AdapterCard, TrainedClass

BEST, OTHER = "GPT4 Correct", "GPT3"
SFT = AdapterCard((TrainedClass("gpt35", BEST, 1.0), TrainedClass("gpt4", BEST, 1.0)))


@pytest.fixture
def answers(read: Callable[..., Answers], card: AdapterCard) -> Answers:
    return read(SFT, card)


def seen(answers: Answers, label: str = "base", gain: float = 0.0, apart: float = 0.0) -> Seen:
    """One who predicts all answers better by `gain` nats under the best condition, and whose
    classes lie `apart`."""
    random = np.random.default_rng(1)
    worst = 50 + random.random(7)
    sums = np.tile([0.5, 0.25, 0.2, 0.4, 0.1], (7, 1)) * answers.tokens[BEST][:, None]
    readings = Readings(
        {BEST: worst - gain - random.random(7), OTHER: worst}, {(BEST, OTHER): sums}
    )
    vectors = random.standard_normal((7, 6)).astype(np.float32)
    vectors[answers.classes == 1] += apart
    return Seen(label, label == "base", (BEST, OTHER), (BEST, OTHER), readings, vectors, vectors)


def test_the_adapter_that_tells_classes_apart_says_which_is_the_best(answers: Answers) -> None:
    assert [rule.name for rule in answers.policy.classes] == ["gpt4", "gpt35"]
    assert answers.conditions == (BEST, OTHER)


def test_every_contender_has_its_own_condition_for_each_class(
    answers: Answers, card: AdapterCard
) -> None:
    assert own_conditions(answers, None) == (BEST, OTHER)
    assert own_conditions(answers, card) == (BEST, OTHER)
    assert own_conditions(answers, SFT) == (BEST, BEST)
    stranger = AdapterCard((TrainedClass("poems", OTHER, 1.0),))
    assert own_conditions(answers, stranger) == (OTHER, OTHER)
    assert trained_conditions(answers, card) == (BEST, OTHER)
    assert trained_conditions(answers, SFT) == (BEST,)
    assert trained_conditions(answers, None) == (BEST, OTHER)


def test_a_condition_that_was_asked_for_takes_the_place_of_the_trained_one(
    read: Callable[..., Answers], card: AdapterCard
) -> None:
    answers = read(card, options=DataOptions(conditions={"gpt35": "Weak"}))

    assert answers.conditions == (BEST, "Weak")
    assert own_conditions(answers, card) == (BEST, "Weak")
    assert trained_conditions(answers, card) == (BEST,)


def test_differences_are_means_over_tokens_of_all_and_of_each_class(answers: Answers) -> None:
    found = differences(answers, seen(answers))

    assert [one.class_name for one in found] == [None, "gpt4", "gpt35"]
    assert found[0].tokens == sum(one.tokens for one in found[1:])
    for one in found:
        assert one.mean == pytest.approx((0.5, 0.25, 0.2, 0.4, 0.1))
        assert one.interval == pytest.approx((0.2, 0.2))


def test_a_gain_is_called_one_and_what_may_be_chance_is_not(answers: Answers) -> None:
    everyone = [seen(answers), seen(answers, "mine", gain=5.0)]
    found = {one.label: differences(answers, one) for one in everyone}

    gain, differs = condition_sentences(answers, everyone, found)

    assert gain.startswith(f"mine predicts gpt4 answers better under '{BEST}' than under '{OTHER}'")
    assert "4 conversations); the base predicts them better by" in gain
    assert "at least 0.2000 and at most 0.4000 nats a token, of 0.6931" in differs
    nats = {BEST: np.array([9.0, 11, 9, 11, 9, 9, 9]), OTHER: np.full(7, 10.0)}
    base = replace(everyone[0], readings=replace(everyone[0].readings, nats=nats))
    alone = next(iter(condition_sentences(answers, [base], {"base": differences(answers, base)})))
    assert alone.startswith("No difference that can be told from chance: base predicts")


def test_classes_lie_further_apart_only_where_that_can_be_told(answers: Answers) -> None:
    prompts = same_prompts(answers)
    spreads = [
        spread(one.label, one.vectors, answers.classes, prompts)
        for one in (seen(answers), seen(answers, "same"), seen(answers, "mine", apart=9.0))
    ]

    assert further_apart(spreads[0], spreads[1]) == (0.0, (0.0, 0.0))
    more, interval = further_apart(spreads[0], spreads[2]) or (0.0, (0.0, 0.0))
    assert interval[0] < more < interval[1]
    same, mine = spread_sentences(answers, {"all together": spreads})
    assert same.startswith("All together, no difference in how far apart the classes lie")
    assert mine.startswith("All together, the classes lie further apart with mine than in the base")


def test_answers_to_the_same_prompt_are_compared_with_each_other(answers: Answers) -> None:
    prompts = same_prompts(answers)
    assert prompts.tolist() == [0, 1, 2, 3, 0, 1, 2]  # the fourth is asked once
    several = answered_by_several(prompts, answers.classes)
    assert several.tolist() == [True] * 3 + [False] + [True] * 3
    # What is asked moves an answer a hundred times further than who answers.
    random = np.random.default_rng(2)
    vectors = (100 * random.standard_normal((4, 6)))[prompts] + random.normal(size=(7, 6)) / 10
    vectors[answers.classes == 1, 0] += 1.0
    chosen = vectors[several], answers.classes[several], prompts[several]

    beside, within = spread("x", *chosen), spread("x", *chosen, within=True)

    assert beside.apart is not None
    assert within.apart is not None
    assert beside.apart.mean < 0 < 0.5 < within.apart.mean
    # Of the 2 · 2 · 2 ways to deal classes within prompts, this one and its opposite.
    assert within.apart.by_chance == pytest.approx(2 / 8, abs=0.05)
    assert np.allclose(within.plane.points[:3], -within.plane.points[3:])


def test_two_pictures_are_drawn_only_where_they_differ(answers: Answers) -> None:
    trained = seen(answers)

    assert not own_is_together(answers, [trained])
    assert own_is_together(answers, [replace(trained, own=(BEST, BEST))])
