"""From grades to rewards."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.data.rewards import RewardError, parse_rule

RULES = ["linear", "min-max", "exp=0.5", "exp=3", "thresholds=8:1,5:0.3,0:0", "thresholds=1:2"]
GRADES = st.lists(st.floats(1, 10), min_size=1, max_size=30)


@given(st.sampled_from(RULES), GRADES)
def test_a_higher_grade_is_never_worth_less(text: str, grades: list[float]) -> None:
    rewards = parse_rule(text).rewards(grades)
    assert len(rewards) == len(grades)
    assert all(math.isfinite(reward) and reward >= 0 for reward in rewards)
    by_grade = [reward for _, reward in sorted(zip(grades, rewards, strict=True))]
    assert by_grade == sorted(by_grade)


@given(st.sampled_from(["min-max", "exp=0.5", "exp=3"]), GRADES)
def test_the_best_of_the_file_is_worth_1(text: str, grades: list[float]) -> None:
    rewards = parse_rule(text).rewards(grades)
    assert max(rewards) == rewards[grades.index(max(grades))] == 1.0


@pytest.mark.parametrize(("text", "rewards"), [
    ("linear", [0.2, 0.5, 0.8, 1.0]),
    (" Linear ", [0.2, 0.5, 0.8, 1.0]),
    ("min-max", [0.0, 0.375, 0.75, 1.0]),
    ("exp=2", [math.exp(-4), math.exp(-2.5), math.exp(-1), 1.0]),
    ("thresholds=8:1,5:0.3,0:0", [0.0, 0.3, 1.0, 1.0]),
    ("thresholds=0:0, 5:.3, 8:1", [0.0, 0.3, 1.0, 1.0]),
    ("thresholds=8.5:1,1:0.1", [0.1, 0.1, 0.1, 1.0]),
])  # fmt: skip
def test_rewards_by_hand(text: str, rewards: list[float]) -> None:
    assert parse_rule(text).rewards([2, 5, 8, 10]) == pytest.approx(rewards)


def test_equal_grades_tell_nothing_apart() -> None:
    assert parse_rule("min-max").rewards([4, 4]) == [1, 1]


def test_the_formula_is_shown() -> None:
    assert parse_rule("thresholds=0:0,8:1").formula == "from 8 on 1, from 0 on 0"
    assert parse_rule("exp=0.5").formula == "exp((grade - highest in this file) / 0.5)"


@pytest.mark.parametrize(("text", "told"), [
    ("", "is no way from grades to rewards"),
    ("sqrt", "linear, min-max, exp=2"),
    ("linear=2", "is no way"),
    ("exp", "is no way"),
    ("exp=0", "must be above 0"),
    ("exp=-1", "must be above 0"),
    ("exp=nan", "is not a number"),
    ("exp=inf", "is not a number"),
    ("thresholds=", "not GRADE:REWARD"),
    ("thresholds=8", "not GRADE:REWARD"),
    ("thresholds=8:x,0:0", "'x'"),
    ("thresholds=8:1,8:0.5,0:0", "two rewards"),
    ("thresholds=8:1,0:-1", "not a number from 0"),
    ("thresholds=8:0.1,0:1", "a higher grade is worth less"),
    ("thresholds=8:1,5:0.3", "below 5"),
])  # fmt: skip
def test_what_is_no_rule_is_a_sentence(text: str, told: str) -> None:
    with pytest.raises(RewardError, match=told):
        parse_rule(text)
