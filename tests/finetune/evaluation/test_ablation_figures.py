"""Figures, tables and sentences of an ablation, from losses that are made up."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.policy import ClassRule, Policy
from openchat_local.finetune.evaluation.ablation.figures import Losses
from openchat_local.finetune.evaluation.ablation.measuring import Measured, is_measured, measured
from openchat_local.finetune.evaluation.ablation.mixed_data import MixedData
from openchat_local.finetune.evaluation.ablation.outcome import Asking, Outcome
from openchat_local.finetune.evaluation.ablation.planning import Ablation
from openchat_local.finetune.evaluation.ablation.prompted import InForm, in_form, questions
from openchat_local.finetune.evaluation.ablation.recipes import (
    BASE,
    C_RLFT,
    CONDITION_ONLY,
    EXPERT_ONLY,
    REWARD_ONLY,
    SFT_ALL,
    distinct,
    ladder,
    ratio_sweep,
)
from openchat_local.finetune.evaluation.ablation.report import markdown, report
from openchat_local.finetune.evaluation.ablation.tables import all_tables
from openchat_local.finetune.evaluation.ablation.verdicts import verdicts
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.conversation import Message

EXPERT, OTHER = "GPT4 Correct", "GPT3"
POLICY = Policy((ClassRule("gpt4", EXPERT, 1.0), ClassRule("gpt35", OTHER, 0.1)))
COUNT = 12  # conversations of each class
TOKENS = np.arange(10, 10 + COUNT)


def run(expert: float, other: float, noise: int = 0) -> Measured:
    """Losses about these, nats a token, under the two conditions; the same for both classes."""
    draw = np.random.default_rng(noise)
    wobble = draw.normal(0, 0.001, (2, 2 * COUNT)) if noise else np.zeros((2, 2 * COUNT))
    tokens = np.tile(TOKENS, 2)
    return {
        number: np.stack([(loss + wobble[number]) * tokens, tokens], 1)
        for number, loss in enumerate((expert, other))
    }


CLASSES = np.repeat([0, 1], COUNT)


def outcome(
    tmp_path: Path, losses: Mapping[str, Sequence[Measured]], forms: Any = None, **more: Any
) -> Outcome:
    data = tmp_path / "mixed.jsonl"
    data.write_text("{}\n")
    turns = (Message("user", "Why?"), Message("assistant", "So."))
    held = tuple(
        Example(line, "OpenAI messages", turns, (None, None), POLICY.classes[index].name)
        for line, index in enumerate(CLASSES, 1)
    )
    mixed = MixedData(POLICY, (), held, 1000, {"mixed.jsonl": "d" * 64}, ("A note.",))
    names = [name for name in losses if name != BASE]
    sweeps = more.get("sweeps", ())
    swept = [recipe for sweep in sweeps for _, line in sweep.series for _, recipe in line]
    rows = tuple(ladder(POLICY, names))
    first = distinct([*ladder(POLICY), *swept])
    trained = {recipe.name: first[recipe.name] for recipe in (*rows, *swept)}
    trained |= {recipe.name: recipe for recipe in trained.values()}
    common = SimpleNamespace(
        pattern=RunSettings("", Path("base.gguf"), data, tokens=1024), as_json=lambda: {"rank": 8}
    )
    seeds = tuple(range(len(losses[C_RLFT])))
    ablation = Ablation(mixed, cast("Any", None), cast("Any", common), rows, sweeps, seeds, trained)
    runs = {f"{recipe.name}-seed{seed}": (4, 1000) for recipe in trained.values() for seed in seeds}
    asking = Asking(40, 64, re.compile("^1")) if forms else None
    known = {name: losses[trained[name].name] for name in trained} | {BASE: losses[BASE]}
    return Outcome(ablation, "torch", Losses(CLASSES, known), runs, (), asking, forms or {})


PAPER = {
    BASE: [run(1.845, 1.95)],
    SFT_ALL: [run(1.71, 1.72, 1), run(1.712, 1.722, 2)],
    EXPERT_ONLY: [run(1.73, 1.74, 3), run(1.732, 1.742, 4)],
    CONDITION_ONLY: [run(1.705, 1.80, 5), run(1.703, 1.80, 6)],
    C_RLFT: [run(1.69, 1.78, 7), run(1.688, 1.78, 8)],
}


def test_a_difference_is_that_of_the_sums_and_paired_within_each_seed() -> None:
    draw = np.random.default_rng(0)
    runs = {
        name: [
            {0: np.stack([draw.normal(20, 4, 2 * COUNT), np.tile(TOKENS, 2)], 1)} for _ in range(2)
        ]
        for name in ("a", "b")
    } | {BASE: [{0: np.stack([np.full(2 * COUNT, 30.0), np.tile(TOKENS, 2)], 1)}]}
    losses = Losses(CLASSES, runs)
    total = TOKENS.sum()
    nats = {name: [one[0][:COUNT, 0].sum() for one in runs[name]] for name in runs}
    found = losses.difference("a", "b", 0, 0)
    seeds = [(a - b) / total for a, b in zip(nats["a"], nats["b"], strict=True)]
    assert found.seeds == pytest.approx(seeds)
    assert found.value == pytest.approx(np.mean(seeds))
    assert found.interval.low < found.value < found.interval.high
    against = losses.difference("a", BASE, 0, 0)
    assert against.seeds == pytest.approx([(a - nats[BASE][0]) / total for a in nats["a"]])
    assert losses.loss("a", 0, 0).value == pytest.approx(np.mean(nats["a"]) / total)
    assert losses.conversations(BASE, 1) == (COUNT, total)


def test_what_another_seed_turns_around_is_not_told_apart() -> None:
    losses = Losses(CLASSES, {"a": [run(1.0, 1.0), run(2.0, 2.0)], "b": [run(1.1, 1), run(1.8, 2)]})
    found = losses.difference("a", "b", 0, 0)
    assert found.interval.low > 0
    assert not found.certain
    assert found.seeds == pytest.approx((-0.1, 0.2))


def test_a_single_conversation_says_nothing_of_the_others() -> None:
    losses = Losses(np.array([0, 1]), {
        name: [{0: np.array([[loss, 1.0], [loss, 1.0]])}] for name, loss in (("a", 1.0), ("b", 2.0))
    })  # fmt: skip
    assert not losses.difference("a", "b", 0, 0).certain


def test_what_is_kept_is_read_back_and_known_to_be_whole() -> None:
    rows = [
        {"condition": 0, "conversation": 1, "nats": 3.5, "tokens": 7},
        {"condition": 9, "conversation": 0, "nats": 1.0, "tokens": 1},
    ]
    found = measured(rows, 2, 1)
    np.testing.assert_array_equal(found[0], [[0, 0], [3.5, 7]])
    store = cast("Any", SimpleNamespace(classes=np.array([1])))
    assert is_measured(rows, [store])
    assert not is_measured(rows, [store, store])


def test_where_the_papers_ladder_comes_out_the_sentences_say_so(tmp_path: Path) -> None:
    said = " ".join(verdicts(outcome(tmp_path, PAPER)))
    assert said.startswith(
        "Condition + reward predicts held-out 'gpt4' answers under 'GPT4 Correct' best, 0.15"
    )
    assert "It is ahead of SFT on all, SFT on the expert part and condition only." in said
    assert re.search(
        r"condition only is 0\.02\d+ .* below SFT on the expert part, as in the paper", said
    )
    assert re.search(r"below condition only, as in the paper\. Against SFT on all", said)
    assert (
        "Condition + reward: under 'GPT3' instead of 'GPT4 Correct' expert answers cost 0.09"
        in said
    )
    assert re.search(r"Seeds of one row lie up to 0\.00\d+ nats a token apart\.", said)


def test_where_it_does_not_they_say_that_too(tmp_path: Path) -> None:
    turned = PAPER | {
        EXPERT_ONLY: PAPER[C_RLFT],
        C_RLFT: PAPER[EXPERT_ONLY],
        CONDITION_ONLY: [run(1.73, 1.8, 9), run(1.733, 1.8, 10)],
    }
    said = " ".join(verdicts(outcome(tmp_path, turned)))
    assert "above SFT on the expert part, the other way round from the paper" in said
    assert "condition only, which cannot be told from chance" in said
    worse = {BASE: [run(1.0, 1.0)], C_RLFT: [run(1.5, 1.5)]}
    said = " ".join(verdicts(outcome(tmp_path, worse)))
    assert said.startswith("No row predicts held-out 'gpt4' answers")
    assert "One seed: how far another seed would lie" in said


def test_a_result_has_every_figure_as_json_and_as_markdown(tmp_path: Path) -> None:
    more = PAPER | {REWARD_ONLY: PAPER[SFT_ALL]}
    forms = {
        name: [[InForm(30, 40), InForm(31, 40)], [InForm(2, 40), InForm(3, 40)]] for name in more
    }
    sweep = ratio_sweep(POLICY, (1.0, 0.1, 0.0))
    result = report(outcome(tmp_path, more, forms, sweeps=(sweep,)), ["Another note."])
    summary = json.loads(json.dumps(result.summary, allow_nan=False))
    best = summary["ladder"][-1]
    assert best["row"] == C_RLFT
    assert best["runs"] == {f"c-rlft-seed{seed}": {"steps": 4, "tokens": 1000} for seed in (0, 1)}
    assert best["losses"][0]["against_base"]["told_apart"]
    assert best["in_form"]["GPT3"] == [{"count": 2, "asked": 40}, {"count": 3, "asked": 40}]
    ends = summary["sweeps"]["ratios"]["own conditions"]
    assert [one["at"] for one in ends] == ["1:1", "1:0.1", "1:0"]
    assert list(ends[0]["runs"]) == ["condition-only-seed0", "condition-only-seed1"]
    assert (
        "Reward of the others, own conditions: lowest at 1:0.1, told apart from 1:1 and 1:0."
        in (result.sentences)
    )
    rows = list(result.rows)
    assert len(rows) == 2 * 2 * COUNT * (1 + 2 * 5 + 2 * 6)
    text = markdown(result)
    assert "| 30, 31 of 40 | 76% [61%, 87%] |" in text
    assert "| condition only |" in text
    assert result.notes[:2] == ["A note.", "Another note."]


def test_tables_name_every_row_and_mark_what_is_told_apart(tmp_path: Path) -> None:
    tables = {table.title: table for table in all_tables(outcome(tmp_path, PAPER))}
    first, pairs, other, trained = tables.values()
    assert first.title == f"Loss of {COUNT} held-out 'gpt4' answers, nats a token"
    assert [row[0] for row in first.rows][0::4] == ["base", "condition + reward"]
    assert other.title == f"Loss of {COUNT} held-out 'gpt35' answers, nats a token"
    assert pairs.rows[0][1] == "–"
    assert pairs.rows[-1][1].startswith("-0.15")
    assert pairs.rows[-1][1].endswith("*")
    assert trained.rows[-1][1] == "gpt4 under GPT4 Correct, 1; gpt35 under GPT3, 0.1"


def test_answers_are_counted_by_what_is_found_in_them() -> None:
    rows = [
        {"condition": 0, "prompt": 0, "tokens": 8, "text": " 1. Look."},
        {"condition": 0, "prompt": 1, "tokens": 8, "text": "Well, 1. Look."},
        {"condition": 0, "prompt": 2, "tokens": 8, "text": "1. Look."},
        {"condition": 1, "prompt": 0, "tokens": 8, "text": "1."},
        {"condition": 0, "prompt": 0, "tokens": 9, "text": "1."},
    ]
    assert in_form(rows, re.compile("^1"), 0, 2, 8) == InForm(1, 2)


def test_questions_are_those_that_differ_with_their_system_prompts() -> None:
    def example(*turns: Message) -> Example:
        return Example(1, "OpenAI messages", turns, (None,) * len(turns))

    reply = Message("assistant", "So.")
    found = questions(
        [
            example(Message("user", "Why?"), reply),
            example(Message("user", "Why?"), Message("assistant", "Because.")),
            example(Message("system", "Be brief."), Message("user", "Why?"), reply),
            example(Message("user", " "), reply),
            example(Message("user", "How?"), reply),
        ],
        2,
    )
    assert [(one.system, one.text) for one in found] == [("", "Why?"), ("Be brief.", "Why?")]
    assert found[1].under("GPT3").condition == "GPT3"
