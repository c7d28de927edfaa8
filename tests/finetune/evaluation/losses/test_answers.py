"""Which held-out answers are measured, under which conditions, and what is said of the rest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from openchat_local.finetune.data.faults import DataError
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.models.library.adapter_file import AdapterCard, TrainedClass

Read = Callable[..., Answers]
Lines = list[dict[str, object]]


def card(*classes: tuple[str, str, float]) -> AdapterCard:
    return AdapterCard(tuple(TrainedClass(*rule) for rule in classes), "openchat-3.5")


def counts(answers: Answers) -> dict[str, int]:
    """Conversations by class."""
    names = [answers.policy.classes[index].name for index in answers.classes]
    return dict(Counter(names))


def rewrite(
    data: Path, change: Callable[[list[dict[str, object]]], list[dict[str, object]]]
) -> None:
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    data.write_text("".join(json.dumps(line) + "\n" for line in change(lines)))


def test_every_conversation_is_there_under_every_condition(read: Read) -> None:
    answers = read()
    assert answers.conditions == ("GPT4 Correct", "GPT3")
    assert counts(answers) == {"gpt4": 3, "gpt35": 1}
    for condition in answers.conditions:
        rows = answers.rows[condition]
        assert rows.lines.tolist() == [1, 2, 3, 4]
        judged = [int(np.count_nonzero(row.weights)) for row in rows]
        assert answers.tokens[condition].tolist() == judged
    assert len({*answers.digests["GPT3"], *answers.digests["GPT4 Correct"]}) == 8


def test_conditions_come_from_the_adapter_and_flags_come_first(read: Read) -> None:
    trained = card(("gpt4", "Best", 1.0), ("gpt35", "Plain", 0.5))
    assert {*read(trained).conditions} == {"Best", "Plain"}
    options = DataOptions(conditions={"gpt35": "Mine"})
    assert {*read(trained, options=options).conditions} == {"Best", "Mine"}


def test_answers_are_measured_under_the_adapters_other_conditions_too(
    read: Read, data: Path
) -> None:
    rewrite(data, lambda lines: [line for line in lines if line["class"] == "gpt4"])
    answers = read(card(("gpt35", "Plain", 0.5), ("gpt4", "Best", 1.0)))
    assert counts(answers) == {"gpt4": 3}
    assert answers.conditions == ("Best", "Plain")


def test_several_adapters_are_measured_under_the_conditions_of_all(read: Read) -> None:
    plain = card(("gpt4", "", 1.0))
    both = card(("gpt4", "Best", 1.0), ("gpt35", "Plain", 0.5))
    # Who knows both classes says what they are, whoever is named first.
    assert read(plain, both).conditions == ("Best", "Plain", "")
    assert read(both, plain).conditions == ("Best", "Plain", "")


def test_a_limit_takes_the_first_of_each_class(read: Read) -> None:
    assert counts(read(limit=2)) == {"gpt4": 2, "gpt35": 1}


def test_a_reward_of_zero_is_still_judged(read: Read) -> None:
    answers = read(options=DataOptions(rewards={"gpt35": 0.0}))
    assert counts(answers) == {"gpt4": 3, "gpt35": 1}
    assert (answers.tokens["GPT3"] > 0).all()


def test_unknown_classes_are_refused_with_the_flags_to_add(read: Read, data: Path) -> None:
    data.write_text(data.read_text().replace('"gpt35"', '"aunt"'))
    with pytest.raises(DataError, match="--reward aunt=NUMBER"):
        read()


def test_bad_lines_are_refused_with_their_numbers(read: Read, data: Path) -> None:
    data.write_text(data.read_text() + "{\n" + '{"messages": []}\n')
    with pytest.raises(DataError) as caught:
        read()
    assert str(caught.value).startswith("Nothing was measured; mend these lines (2 of ")
    assert f"{data}, line 5: is not JSON" in caught.value.faults[0]


def test_nothing_left_to_measure_is_told_with_its_reason(read: Read, data: Path) -> None:
    with pytest.raises(DataError, match=r"left to measure: 4 answer only after the 5 tokens"):
        read(max_length=5)
    with pytest.raises(
        DataError, match="4 are longer than the context of 12 tokens, the longest has"
    ):
        read(context=12)
    line = json.loads(data.read_text().splitlines()[0]) | {"reward": 0}
    data.write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match="left to measure: 1 have no weight"):
        read()


def test_whatever_is_left_out_is_told(read: Read, data: Path) -> None:
    lines = data.read_text().splitlines()
    again = json.loads(lines[0]) | {"class": "gpt35", "tools": []}
    data.write_text("\n".join([*lines, json.dumps(again), "{"]) + "\n")
    answers = read(options=DataOptions(skip_bad=True), max_length=24)
    assert counts(answers) == {"gpt4": 3, "gpt35": 1}
    taken, conflict, told, fields, bad, fault = answers.notes
    assert taken == "held-out.jsonl: 5 conversations, OpenAI messages."
    assert "such as line 1 instead of line 5" in conflict
    assert told.startswith("Of 5 conversations: duplicates left out 1, cut after 24 tokens ")
    assert "tools (1)" in fields
    assert bad == "Bad lines, left out: 1."
    assert fault.startswith("line 6: is not JSON")


def test_what_the_context_cannot_hold_is_left_out_whole_and_under_every_condition(
    read: Read, data: Path
) -> None:
    longest = max(int(rows.lengths.max()) for rows in read().rows.values())
    shorter = read(context=longest - 1)
    left_out = 4 - len(shorter.classes)
    assert left_out >= 1
    assert shorter.notes[1] == (
        f"Of 4 conversations: left out, longer than the context of {longest - 1} tokens {left_out}."
    )
    lines = [rows.lines.tolist() for rows in shorter.rows.values()]
    assert lines[0] == lines[1]
    # Cut on purpose, all are there.
    assert len(read(context=512, max_length=longest - 1).classes) == 4


def test_a_class_without_an_answer_is_named(read: Read, data: Path) -> None:
    def without_weight(lines: Lines) -> Lines:
        return [line | ({"reward": 0} if line["class"] == "gpt35" else {}) for line in lines]

    rewrite(data, without_weight)
    answers = read()
    assert counts(answers) == {"gpt4": 3}
    assert answers.notes[1:] == (
        "Of 4 conversations: dropped, no weight 1.",
        "No answer of the class 'gpt35' is left to measure.",
    )


def test_turns_that_weigh_nothing_are_context_and_not_judged(read: Read, data: Path) -> None:
    turns = [
        {"role": "user", "content": "A colour?"},
        {"role": "assistant", "content": "Grey, grey, grey and again grey.", "weight": 0},
        {"role": "user", "content": "Another?"},
        {"role": "assistant", "content": "Blue."},
    ]
    lines = [
        {"messages": turns, "class": "gpt4"},
        {"messages": [turns[0], turns[3]], "class": "gpt4"},
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    tokens = read().tokens["GPT4 Correct"]
    assert tokens[0] == tokens[1]
