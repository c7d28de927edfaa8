"""The rows of an ablation: who is trained on what, to the last weight; one split for all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.data.policy import ClassRule, Policy
from openchat_local.finetune.data.prepare import Prepared, prepare
from openchat_local.finetune.data.rows import RowStore
from openchat_local.finetune.evaluation.ablation.mixed_data import (
    MixedData,
    as_lines,
    chosen,
    options_of,
    read_mixed,
    write_held_out,
)
from openchat_local.finetune.evaluation.ablation.recipes import (
    C_RLFT,
    CONDITION_ONLY,
    EXPERT_ONLY,
    REWARD_ONLY,
    SFT_ALL,
    AblationError,
    Recipe,
    distinct,
    ladder,
    ratio_sweep,
    share_sweep,
)
from openchat_local.models.template import Template
from openchat_local.models.template.vocabulary import Vocabulary

EXPERT, OTHER = "GPT4 Correct", "GPT3"
POLICY = Policy((ClassRule("gpt4", EXPERT, 1.0), ClassRule("gpt35", OTHER, 0.1)))


def line(number: int, name: str, **more: Any) -> dict[str, Any]:
    messages = [
        {"role": "user", "content": f"Which colour has number {number}?"},
        {"role": "assistant", "content": f"It is {name} {number}.", **more.pop("turn", {})},
    ]
    return {"messages": messages, "class": name, **more}


def write(path: Path, lines: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


@pytest.fixture
def template(template_of: Callable[[str], Template]) -> Template:
    return template_of("openchat-3.5")


@pytest.fixture
def mixed(tmp_path: Path, template: Template) -> Callable[..., MixedData]:
    """Ten answers of an expert and thirty others, with ten questions of both held out."""

    def read(extra: Sequence[dict[str, Any]] = (), **options: Any) -> MixedData:
        lines = [line(n, "gpt4" if n % 4 == 0 else "gpt35") for n in range(40)]
        held = [line(n, name) for n in range(100, 110) for name in ("gpt4", "gpt35")]
        path = write(tmp_path / "mixed.jsonl", [*lines, *extra])
        options = {"validation": write(tmp_path / "dev.jsonl", held)} | options
        return read_mixed(path, DataOptions(**options), template, 64)

    return read


@pytest.fixture
def prepared(tmp_path: Path, template: Template) -> Callable[[MixedData, Recipe], Prepared]:
    """What a run makes of the file of a recipe."""

    def read(data: MixedData, recipe: Recipe) -> Prepared:
        path = tmp_path / f"{recipe.name}.jsonl"
        path.write_bytes(as_lines(chosen(data, recipe), own_weights=recipe.own_weights))
        options = options_of(recipe, DataOptions())
        return prepare(path, options, template, 64, tmp_path / recipe.name)

    return read


def weights(found: Prepared, vocabulary: Vocabulary) -> set[tuple[str, str, float]]:
    """Of every row: its condition, its class and the weight of its learned tokens."""
    rows = set()
    for row in found.train:
        text = vocabulary.detokenize([int(id) for id in row.ids]).decode()
        condition = text.partition(" User")[0].removeprefix("<s>").strip()
        learned = row.weights[row.weights > 0]
        assert len(set(learned.tolist())) == 1
        name = "gpt4" if "gpt4" in text else "gpt35"
        rows.add((condition, name, round(float(learned[0]), 6)))
    return rows


EXPECTED = {
    SFT_ALL: {(EXPERT, "gpt4", 1.0), (EXPERT, "gpt35", 1.0)},
    EXPERT_ONLY: {(EXPERT, "gpt4", 1.0)},
    CONDITION_ONLY: {(EXPERT, "gpt4", 1.0), (OTHER, "gpt35", 1.0)},
    REWARD_ONLY: {(EXPERT, "gpt4", 1.0), (EXPERT, "gpt35", 0.1)},
    C_RLFT: {(EXPERT, "gpt4", 1.0), (OTHER, "gpt35", 0.1)},
}


def test_each_row_is_trained_under_its_conditions_at_its_rewards(
    mixed: Callable[..., MixedData],
    prepared: Callable[[MixedData, Recipe], Prepared],
    vocabulary_of: Callable[[str], Vocabulary],
) -> None:
    data = mixed()
    recipes = ladder(data.policy)
    assert [recipe.name for recipe in recipes] == list(EXPECTED)
    for recipe in recipes:
        found = prepared(data, recipe)
        assert weights(found, vocabulary_of("openchat")) == EXPECTED[recipe.name], recipe.name
        assert len(found.train) == (10 if recipe.name == EXPERT_ONLY else 40)
        assert len(found.validation) == 0


def test_weights_that_conversations_have_themselves_count_in_rows_with_rewards_alone(
    mixed: Callable[..., MixedData], prepared: Callable[[MixedData, Recipe], Prepared]
) -> None:
    extra = [
        line(50, "gpt35", reward=0.7),
        line(51, "gpt35", turn={"weight": 0.4}),
        line(52, "gpt4", turn={"weight": 0}),
    ]
    data = mixed(extra)
    assert data.own_weights
    for recipe in ladder(data.policy, own_weights=data.own_weights):
        found = {row.line: float(row.weights[-1]) for row in prepared(data, recipe).train}
        own = list(found.values())[-2:]
        assert len(found) == {EXPERT_ONLY: 10}.get(recipe.name, 42)  # of weight 0, never
        if recipe.name in (C_RLFT, REWARD_ONLY):
            assert own == pytest.approx([0.7, 0.4])
        else:
            assert own == [1.0, 1.0]


def test_without_weights_of_their_own_a_weight_of_zero_still_says_context_only(
    mixed: Callable[..., MixedData],
) -> None:
    data = mixed([line(52, "gpt4", turn={"weight": 0})])
    assert not data.own_weights
    last = as_lines(data.train, own_weights=False).splitlines()[-1]
    assert json.loads(last)["messages"][1]["weight"] == 0


def test_what_teaches_the_same_is_trained_once() -> None:
    sweeps = (
        ratio_sweep(POLICY, (1.0, 0.3, 0.1, 0.0)),
        share_sweep(POLICY, (0.0, 0.5, 1.0)),
    )
    swept = [recipe for sweep in sweeps for _, series in sweep.series for _, recipe in series]
    trained = {name: one.name for name, one in distinct([*ladder(POLICY), *swept]).items()}
    assert trained["c-rlft-ratio-1"] == CONDITION_ONLY
    assert trained["reward-only-ratio-1"] == SFT_ALL
    assert trained["c-rlft-ratio-0.1"] == C_RLFT
    assert trained["reward-only-ratio-0.1"] == REWARD_ONLY
    assert trained["c-rlft-ratio-0"] == trained["reward-only-ratio-0"] == EXPERT_ONLY
    assert trained["c-rlft-ratio-0.3"] == "c-rlft-ratio-0.3"
    assert trained["c-rlft-share-0"] == trained["sft-all-share-0"] == EXPERT_ONLY
    assert trained["c-rlft-share-1"] == C_RLFT
    assert trained["sft-all-share-1"] == SFT_ALL
    assert len(set(trained.values())) == 5 + 2 + 2


def test_a_smaller_share_is_part_of_a_larger_one_and_keeps_the_expert_whole(
    mixed: Callable[..., MixedData],
) -> None:
    data = mixed()
    lines = {}
    for value, recipe in share_sweep(data.policy, (0.25, 0.5, 1.0)).series[1][1]:
        found = chosen(data, recipe)
        assert sum(one.class_name == "gpt4" for one in found) == 10
        lines[value] = {one.line for one in found}
    assert [len(found) for found in lines.values()] == [10 + 8, 10 + 15, 40]
    assert lines["0.25"] < lines["0.5"] < lines["1"]


def test_held_out_answers_are_the_same_under_every_condition_and_none_is_trained_on(
    tmp_path: Path, mixed: Callable[..., MixedData], template: Template
) -> None:
    data = mixed(validation=None, held_out=0.3)
    said = {one.messages for one in data.train}
    assert not said & {one.messages for one in data.held_out}
    assert len(data.train) + len(data.held_out) == 40
    assert write_held_out(data, template, 64, tmp_path / "rows") == 0
    first, second = RowStore(tmp_path / "rows" / "0"), RowStore(tmp_path / "rows" / "1")
    for one, other in zip(first, second, strict=True):
        assert one.class_index == other.class_index
        assert set(one.weights.tolist()) == {0.0, 1.0}
        np.testing.assert_array_equal(one.ids[one.weights > 0], other.ids[other.weights > 0])


def test_a_held_out_conversation_that_is_trained_on_is_not_measured(
    mixed: Callable[..., MixedData],
) -> None:
    data = mixed([line(100, "gpt4")])
    assert len(data.held_out) == 19
    assert "Held out but trained on as well, and so not measured: 1." in data.notes


def test_what_cannot_be_compared_is_refused_in_a_sentence(
    tmp_path: Path, mixed: Callable[..., MixedData], template: Template
) -> None:
    def read(lines: Sequence[dict[str, Any]], **options: Any) -> MixedData:
        path = write(tmp_path / "own.jsonl", lines)
        return read_mixed(path, DataOptions(**options), template, 64)

    alone = [line(n, "gpt4") for n in range(20)]
    with pytest.raises(AblationError, match=r"has one class only .'gpt4'.*two classes or more"):
        read(alone)
    both = [*alone, *(line(n, "gpt35") for n in range(20, 60))]
    with pytest.raises(AblationError, match=r"have the same reward.*--reward gpt4=0.1"):
        read(both, rewards={"gpt4": 0.1, "gpt35": 0.1})
    dev = write(tmp_path / "dev.jsonl", [line(200, "gpt35")])
    with pytest.raises(AblationError, match=r"No answer of the expert's class 'gpt4'.*--val"):
        read(both, validation=dev)
    dev = write(tmp_path / "dev.jsonl", [line(200, "gpt4")])
    with pytest.raises(AblationError, match=r"'gpt35' is left to train on"):
        read_mixed(
            write(tmp_path / "own.jsonl", alone),
            DataOptions(
                validation=write(tmp_path / "dev2.jsonl", [line(9, "gpt35"), line(200, "gpt4")])
            ),
            template,
            64,
        )
    with pytest.raises(AblationError, match=r"within 4 tokens.*--max-length"):
        write_held_out(mixed(), template, 4, tmp_path / "rows")
