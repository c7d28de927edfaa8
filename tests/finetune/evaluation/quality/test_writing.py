"""Rewards in a new file, and what `finetune` makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.data.prepare import prepare
from openchat_local.finetune.evaluation.quality.writing import (
    RewardsUnwritten,
    check_target,
    write_rewarded,
)
from openchat_local.finetune.evaluation.rows import file_digest
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import choose_template
from openchat_local.models.template.vocabulary import Vocabulary


def rows() -> list[dict[str, Any]]:
    return [
        {"id": 7, "messages": [{"role": "user", "content": "Ünï"},
                               {"role": "assistant", "content": "你好"}], "class": "gpt4"},
        {"prompt": "a", "completion": "b", "class": "gpt35", "weight": 0.5, "more": [1, {"x": 2}]},
        {"instruction": "i", "output": "o", "class": "gpt4", "reward": 3, "condition": "Math"},
        {"prompt": "c", "completion": "\ud800", "class": "gpt35"},
    ]  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n\n" for row in rows()))
    return path


def write(source: Path, target: Path, rewards: dict[int, float], **more: Any) -> int:
    given: dict[str, Any] = {"lines": {1, 3, 5, 7}, "replace": False} | more
    digest = given.pop("digest", None) or file_digest(source)
    places = frozenset((line, 0) for line in given["lines"])
    by_place = {(line, 0): reward for line, reward in rewards.items()}
    return write_rewarded(source, digest, target, places, by_place, replace=given["replace"])


def test_every_other_field_stays_as_it_is(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "finer.jsonl"
    assert write(source, target, {1: 0.25, 3: 1.0, 5: 0.1}) == 4
    found = [json.loads(line) for line in target.read_text().splitlines()]
    first, second, third, fourth = rows()
    del second["weight"]  # it means the same as a reward
    assert found == [
        first | {"reward": 0.25}, second | {"reward": 1.0}, third | {"reward": 0.1}, fourth,
    ]  # fmt: skip
    assert "你好" in target.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"data.jsonl", "finer.jsonl"}


def test_lines_that_were_left_out_are_not_written(source: Path, tmp_path: Path) -> None:
    assert write(source, tmp_path / "finer.jsonl", {1: 0.5}, lines=frozenset({1, 7})) == 2


def test_a_list_becomes_lines(tmp_path: Path) -> None:
    source, target = tmp_path / "data.json", tmp_path / "finer.jsonl"
    source.write_text(json.dumps(rows(), indent=2))
    assert write(source, target, {2: 0.75}, lines=frozenset({1, 2, 3, 4})) == 4
    assert json.loads(target.read_text().splitlines()[1])["reward"] == 0.75


def test_a_file_that_is_there_stays_unless_told(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "finer.jsonl"
    target.write_text("mine")
    with pytest.raises(RewardsUnwritten, match=r"is there already.*--replace"):
        check_target(target, source, replace=False)
    with pytest.raises(RewardsUnwritten, match="came to be"):
        write(source, target, {1: 0.5})
    assert target.read_text() == "mine"
    check_target(target, source, replace=True)
    write(source, target, {1: 0.5}, replace=True)
    assert json.loads(target.read_text().splitlines()[0])["reward"] == 0.5


def test_what_cannot_be_written_is_said_before_anything_is_graded(
    source: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.jsonl").symlink_to(source)
    for target, told in (
        (source, "is the file that is graded"),
        (tmp_path / "link.jsonl", "is the file that is graded"),
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "file.jsonl", "is not there"),
        (Path("-"), "needs a file's name"),
    ):
        with pytest.raises(RewardsUnwritten, match=told):
            check_target(target, source, replace=True)


def test_data_that_changed_meanwhile_are_not_written(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RewardsUnwritten, match="changed while it was graded"):
        write(source, tmp_path / "finer.jsonl", {1: 0.5}, digest="of another day")
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_finetune_weighs_by_the_rewards_of_conversations(
    source: Path, tmp_path: Path, model_path: Callable[[str], Path]
) -> None:
    """Exactly: every token of an answer has its conversation's reward, and the class and its
    condition stay."""
    model = read_gguf(model_path("openchat"))
    template = choose_template(model, Vocabulary.open(model.path), None)
    lines = [
        {"messages": [{"role": "user", "content": f"Question {number}?"},
                      {"role": "assistant", "content": f"Answer {number}."}], "class": name}
        for number, name in enumerate(["gpt4", "gpt35", "gpt35", "gpt4", "gpt35"])
    ]  # fmt: skip
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    target = tmp_path / "finer.jsonl"
    # The fourth has no grade: it keeps its class's reward.
    rewards = {1: 0.9, 2: 0.3, 3: 0.05, 5: 0.7}
    write(source, target, rewards, lines=frozenset(range(1, 6)))
    found = prepare(target, DataOptions(held_out=0), template, 512, tmp_path / "rows")
    assert {rule.name: rule.condition for rule in found.policy.classes} == {
        "gpt4": "GPT4 Correct", "gpt35": "GPT3",
    }  # fmt: skip
    weights = {row.line: set(row.weights[row.weights > 0].tolist()) for row in found.train}
    assert weights == {
        line: {float(np.float32(reward))} for line, reward in {**rewards, 4: 1.0}.items()
    }
    report = {one.rule.name: one for one in found.report.train.classes}
    assert report["gpt35"].least_weight == pytest.approx(0.05)
    assert report["gpt35"].greatest_weight == pytest.approx(0.7)
