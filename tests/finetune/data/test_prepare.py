"""From files to rows: problems all at once, duplicates, the split, the report."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.data.batches import Row
from openchat_local.finetune.data.epoch import Layout
from openchat_local.finetune.data.faults import DataError, Faults
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.data.prepare import Prepared, prepare
from openchat_local.finetune.data.rows import RowStore, RowWriter
from openchat_local.finetune.data.split import hold_out
from openchat_local.finetune.data.survey import ClassCount, Survey
from openchat_local.finetune.data.training import PlannedData
from openchat_local.models.template import Template

from .conftest import WriteLines

Prepare = Callable[..., Prepared]


@pytest.fixture
def prepared(template_of: Callable[[str], Template], tmp_path: Path) -> Prepare:
    """Prepares a file for the OpenChat 3.5 vocabulary; nothing held out unless asked for."""

    def prepare_file(path: Path, *, context: int = 512, family: str = "openchat-3.5",
                     **options: Any) -> Prepared:  # fmt: skip
        given = DataOptions(**{"held_out": 0.0} | options)
        return prepare(path, given, template_of(family), context, tmp_path / "rows")

    return prepare_file


def talk(question: str, answer: str, **fields: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **fields}


def many(count: int) -> list[dict[str, Any]]:
    return [talk(f"question {i // 2}", f"answer {i}", **{"class": "gpt4"}) for i in range(count)]


def test_rows_come_back_from_disk_as_they_were_weighed(
    prepared: Prepare, write_lines: WriteLines, tmp_path: Path
) -> None:
    path = write_lines(
        talk("Hello", "Hi", **{"class": "gpt4"}), talk("Hello", "Yo", **{"class": "gpt35"})
    )
    done = prepared(path)
    header = [420, 6316, 28781, 3198, 3123]
    assert len(done.train) == 2
    row = done.train[0]
    expected = [1, *header, 1247, 28747, 22557, 32000, *header, 21631, 28747, 15359, 32000]
    assert row.ids.tolist() == expected
    assert row.weights.tolist() == [0.0] * 17 + [1.0, 1.0]
    assert (row.class_index, row.line) == (0, 1)
    assert done.train[1].weights[-1] == np.float32(0.1)
    assert done.train[-1].line == 2
    again = RowStore(tmp_path / "rows" / "train")
    assert [r.ids.tolist() for r in again] == [r.ids.tolist() for r in done.train]
    assert [r.line for r in again[0:2]] == [1, 2]
    with pytest.raises(IndexError):
        again[2]


def test_rows_that_were_not_written_to_their_end_are_no_rows(tmp_path: Path) -> None:
    row = Row(np.array([1, 2], np.int32), np.array([0, 1], np.float32), 0, 1)
    with RowWriter(tmp_path) as writer:
        writer.append(row)
    assert len(RowStore(tmp_path)) == 1
    with pytest.raises(KeyError), RowWriter(tmp_path) as writer:  # noqa: PT012
        writer.append(row)
        raise KeyError
    with pytest.raises(FileNotFoundError):
        RowStore(tmp_path)


def test_the_report_has_every_figure(prepared: Prepare, write_lines: WriteLines) -> None:
    path = write_lines(
        talk("Hello", "Hi", **{"class": "gpt4"}),
        talk("Hello", "Hi", **{"class": "gpt4"}),
        {"instruction": "Hello", "output": "Hi Hi", "class": "gpt35"},
        {"prompt": "Hello", "completion": "Hi " * 600, "class": "gpt35"},
        talk("Hello", "Hi Hello", reward=0, **{"class": "gpt35"}),
        talk("Hi " * 600, "Hello", **{"class": "gpt35"}),
    )
    report = prepared(path, context=64).report
    train = report.train
    assert (train.conversations, train.turns, train.duplicates, train.truncated) == (3, 6, 1, 1)
    assert train.dropped == {"no weight": 1, "no weight within the context": 1}
    expert, other = train.classes
    assert (expert.rule.name, expert.conversations, expert.supervised_tokens) == ("gpt4", 1, 2)
    assert (other.rule.name, other.conversations, other.supervised_tokens) == ("gpt35", 2, 3 + 51)
    assert expert.share == pytest.approx(1 / 3)
    assert other.mean_weight == pytest.approx(0.1)
    assert expert.weight_share == pytest.approx(2 / (2 + 5.4))
    assert train.tokens == 17 + 2 + 13 + 3 + 64
    assert train.supervised_tokens == 56
    assert (train.lengths.p50, train.lengths.max) == (19, 615)
    assert report.formats == {"OpenAI messages": 4, "Alpaca": 1, "prompt/completion": 1}
    assert report.validation.conversations == 0
    assert not report.plain_sft
    assert any("1 of 3" in note for note in report.notes())
    assert json.loads(json.dumps(report.as_json()))["train"]["classes"][0]["rule"]["reward"] == 1.0


def test_one_class_is_said_to_be_plain_sft(prepared: Prepare, write_lines: WriteLines) -> None:
    unlabelled = prepared(write_lines(talk("a", "b")))
    assert unlabelled.report.plain_sft
    assert "plain SFT" in unlabelled.report.notes()[0]
    silenced = write_lines(
        talk("a", "b", **{"class": "gpt4"}), talk("c", "d", **{"class": "gpt35"})
    )
    assert prepared(silenced, rewards={"gpt35": 0.0}).report.plain_sft


def test_one_class_whose_rows_have_weights_of_their_own_is_not_plain(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    report = prepared(write_lines(talk("a", "b", reward=0.2), talk("c", "d", reward=3))).report
    assert not report.plain_sft
    assert "the rows' own weights, 0.2 to 3, do count" in report.notes()[0]
    same = prepared(write_lines(talk("a", "b", reward=3), talk("c", "d", reward=3))).report
    assert same.plain_sft


def test_what_is_not_read_is_named_with_its_count(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    lines = [talk(f"a{i}", "b", id=i, **({"tools": []} if i < 2 else {})) for i in range(3)]
    notes = prepared(write_lines(*lines)).report.notes()
    assert "Not learned, though it may change what an answer means: tools (2)." in notes
    assert "Fields that are not used: id (3)." in notes
    many = prepared(write_lines(*[talk(f"a{i}", "b", **{f"f{i}": i}) for i in range(50)])).report
    assert len(many.ignored) == 33
    assert many.ignored["others"] == 18


def test_the_system_prompt_of_most_of_the_best_class_is_known(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    best, other = {"class": "gpt4"}, {"class": "gpt35"}
    lines = [
        talk("a", "b", system="Be kind.", **best), talk("c", "d", system="Be kind.", **best),
        talk("e", "f", **best), *(talk(f"g{i}", "h", system="Be rude.", **other) for i in range(9)),
    ]  # fmt: skip
    report = prepared(write_lines(*lines)).report
    assert report.system_prompt == "Be kind."
    assert any("2 of 3 'gpt4'" in note and "'Be kind.'" in note for note in report.notes())
    parted = prepared(write_lines(*lines[1:])).report
    assert parted.system_prompt == ""


# Problems


BAD = (
    talk("a", "b", **{"class": "gpt4"}),
    b"\xff",
    "{",
    {"messages": [{"role": "user", "content": "a"}]},
    {"messages": [{"role": "robot", "content": "a"}]},
    talk("a", "c", **{"class": "martian"}),
    talk("a", "d", reward=-1),
)


def test_text_that_a_template_was_applied_to_before_is_told(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    path = write_lines(
        talk("<|im_start|>user\nHello<|im_end|>", "Hi"),
        talk("[INST] Hello [/INST]", "Hi there"),
        talk("What does <|im_end|> mean, and [INST]?", "The end of a turn."),
    )
    notes = prepared(path).report.notes()
    assert [note for note in notes if "chat template" in note and "2 conversations" in note]
    harmless = prepared(write_lines(talk("What is <|im_end|>?", "A mark."))).report.notes()
    assert not [note for note in harmless if "chat template" in note]


def test_all_problems_of_file_and_flags_are_told_at_once(
    prepared: Prepare, write_lines: WriteLines, tmp_path: Path
) -> None:
    path = write_lines(*BAD)
    other = write_lines("3", name="val.jsonl")
    with pytest.raises(DataError) as caught:
        prepared(path, validation=other, rewards={"absent": 1.0})
    faults = caught.value.faults
    assert [fault.removeprefix(f"{path}, ")[:14] for fault in faults[:5]] == [
        "line 2: is not",
        "line 3: is not",
        "line 4: has no",
        "line 5, messag",
        "line 7, reward",
    ]
    assert faults[5] == f"{other}, line 1: is not a JSON object (3)"
    assert any("the class 'absent' of --reward" in fault for fault in faults)
    assert any("--reward martian=NUMBER" in fault for fault in faults)
    assert len(faults) == 8
    assert f"(5 of {path}, 1 of {other})" in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    assert not (tmp_path / "rows").exists()  # nothing half-written


def test_many_problems_of_a_kind_are_counted(prepared: Prepare, write_lines: WriteLines) -> None:
    lines = [*[{"prompt": "a"}] * 517, *[talk("a", "b", reward=-1)] * 2]
    with pytest.raises(DataError) as caught:
        prepared(write_lines(*lines))
    shown = [fault.partition("data.jsonl, ")[2] for fault in caught.value.faults]
    assert shown[4:] == [
        "line 5, completion: is missing",
        "… and 512 more of this kind",
        "line 518, reward: is not a number from 0 to 1,000,000 (-1)",
        "line 519, reward: is not a number from 0 to 1,000,000 (-1)",
    ]


def test_bad_lines_can_be_left_out_and_are_listed(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    done = prepared(write_lines(*BAD[:5]), skip_bad=True)
    assert [row.line for row in done.train] == [1]
    assert done.report.bad_lines == 4
    assert len(done.report.faults) == 4
    assert any("Bad lines, left out: 4" in note for note in done.report.notes())


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    ("lines", "sentence"), [([], "the file: holds no conversation"), (["{"], "line 1: is not JSON")]
)
def test_a_file_without_a_conversation_is_refused(
    lines: list[str], sentence: str, skip_bad: bool, prepared: Prepare, write_lines: WriteLines
) -> None:
    with pytest.raises(DataError, match=sentence):
        prepared(write_lines(*lines), skip_bad=skip_bad)


@pytest.mark.parametrize(
    ("line", "context", "advice"),
    [
        (talk("a", "b", reward=0), 512, "1 have no weight; give their class or some reply"),
        (
            talk("a " * 50, "b"),
            9,
            "1 answer only after the 9 tokens that are kept, the longest ends at .*--max-length",
        ),
    ],
)
def test_when_nothing_is_left_the_reason_and_its_cure_are_told(
    line: Any, context: int, advice: str, prepared: Prepare, write_lines: WriteLines
) -> None:
    with pytest.raises(DataError, match=f"is left to train on: {advice}"):
        prepared(write_lines(line), context=context)


def test_classes_that_are_no_classes_are_refused(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    lines = [talk("a", f"b{i}", id=i) for i in range(100)]
    with pytest.raises(DataError, match="more than 64 classes by --class-field id"):
        prepared(write_lines(*lines), class_field="id")


def test_turns_that_the_template_cannot_write_are_told(
    write_lines: WriteLines,
    model_path: Callable[[str], Path],
    vocabulary_of: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    from dataclasses import replace

    from openchat_local.models.gguf import read_gguf
    from openchat_local.models.template import choose_template

    file = read_gguf(model_path("zephyr"))
    strict = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate') }}{% endif %}"
        "[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}[assistant] "
    )
    file = replace(file, metadata={**file.metadata, "tokenizer.chat_template": strict})
    template = choose_template(file, vocabulary_of("zephyr"))
    turn = {"role": "assistant", "content": "x"}
    path = write_lines(talk("a", "b"), {"messages": [turn, turn]})
    with pytest.raises(DataError, match=r"line 2: cannot be written .*Roles must alternate"):
        prepare(path, DataOptions(), template, 512, tmp_path / "rows")


# Duplicates and the split


def test_duplicates_are_left_out_and_the_first_stays(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    path = write_lines(
        talk("a", "b"), talk("a", "c"), talk("a", "b"), talk("ab", "x"), talk("a", "b")
    )
    done = prepared(path)
    assert [row.line for row in done.train] == [1, 2, 4]
    assert done.report.train.duplicates == 2


def test_of_equal_conversations_the_one_worth_most_stays(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    path = write_lines(
        talk("a", "b", **{"class": "gpt35"}), talk("a", "b", **{"class": "gpt4"}),
        talk("c", "d", weight=0, **{"class": "gpt4"}), talk("c", "d", **{"class": "gpt35"}),
        talk("c", "d", **{"class": "gpt35"}), talk("e", "f", **{"class": "gpt35"}),
        talk("e", "f", **{"class": "gpt35"}),
    )  # fmt: skip
    done = prepared(path)
    assert [row.line for row in done.train] == [2, 4, 6]
    assert done.report.train.duplicates == 4
    (note,) = (note for note in done.report.notes() if "more than once" in note)
    assert note.startswith("2 conversations of data.jsonl")
    assert "such as line 2 instead of line 1" in note
    turned = prepared(path, rewards={"gpt35": 5.0})
    assert [row.line for row in turned.train] == [1, 4, 6]


def test_the_split_hangs_on_the_question_alone(prepared: Prepare, write_lines: WriteLines) -> None:
    lines = many(400)

    def held_out(lines: list[dict[str, Any]]) -> set[str]:
        done = prepared(write_lines(*lines), held_out=0.2)
        assert len(done.train) + len(done.validation) == len(lines)
        assert not {row.line for row in done.train} & {row.line for row in done.validation}
        return {lines[row.line - 1]["messages"][1]["content"] for row in done.validation}

    whole = held_out(lines)
    assert 40 < len(whole) < 120
    shuffled = lines[:300]
    random.Random(0).shuffle(shuffled)
    assert held_out(shuffled) == {answer for answer in whole if int(answer.split()[1]) < 300}
    numbers = {int(answer.split()[1]) for answer in whole}
    assert {number ^ 1 for number in numbers} == numbers  # both answers to a question


def test_a_rare_class_is_held_out_often_enough_to_be_measured(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    common = [talk(f"question {i}", f"answer {i}", **{"class": "gpt35"}) for i in range(400)]
    rare = [talk(f"riddle {i}", f"solution {i}", **{"class": "gpt4"}) for i in range(50)]
    done = prepared(write_lines(*common, *rare), held_out=0.01)
    classes = done.validation.classes.tolist()
    assert classes.count(done.policy.index("gpt4")) == 5
    assert classes.count(done.policy.index("gpt35")) == 8
    lines = {row.line for row in done.validation}
    again = prepared(write_lines(*rare, *common), held_out=0.01)
    moved = {row.line - 50 if row.line > 50 else row.line + 400 for row in again.validation}
    assert moved == lines
    assert len(prepared(write_lines(*common, *rare), held_out=0.0).validation) == 0


def test_of_a_few_rated_chats_some_of_each_class_are_held_out(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    good = [talk(f"question {i}", f"answer {i}", **{"class": "gpt4"}) for i in range(5)]
    bad = [talk(f"riddle {i}", f"solution {i}", **{"class": "gpt35"}) for i in range(11)]
    done = prepared(write_lines(*good, *bad), held_out=0.05)
    held = set(done.validation.classes.tolist())
    assert held == {done.policy.index("gpt4"), done.policy.index("gpt35")}


def test_one_question_with_many_answers_is_not_held_out_whole(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    lines = [talk("Write a poem.", f"poem {i}") for i in range(60)]
    done = prepared(write_lines(*lines), held_out=0.05)
    assert 1 <= len(done.validation) <= 6
    assert any("60 conversations begin like too many others" in n for n in done.report.notes())
    random.Random(1).shuffle(lines)
    again = prepared(write_lines(*lines), held_out=0.05)
    assert len(again.validation) == len(done.validation)


@given(
    openings=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    share=st.sampled_from([0.01, 0.05, 0.2, 0.5, 0.9]),
    seed=st.integers(0, 9),
)
def test_never_too_much_is_held_out_of_a_class_and_common_openings_alone_are_parted(
    openings: list[int], share: float, seed: int
) -> None:
    from collections import Counter

    hashes = np.random.default_rng(seed).integers(0, 2**64, (sum(openings), 3), np.uint64)
    numbers = np.repeat(np.arange(len(openings)), openings)
    labels = (hashes[:, 2] % np.uint64(3) == 0).astype(np.uint8)
    starts = hashes[:, 2][np.cumsum([0, *openings[:-1]])]
    found = Survey(
        Path("x"), Faults(Path("x")), {"a": ClassCount(), "b": ClassCount()}, Counter(), Counter(),
        Counter(),
        hashes[:, :2], starts[numbers], labels, numbers, np.zeros(len(numbers)), numbers, "",
    )  # fmt: skip
    held = hold_out(found, np.ones(len(numbers), bool), share)
    for label in (0, 1):
        own = labels == label
        most = max(0.1, min(2 * share, (1 + share) / 2)) * own.sum()
        assert held.chosen[own].sum() <= min(np.ceil(most), max(own.sum() - 1, 0))
    for number in range(len(openings)):
        chosen = held.chosen[(numbers == number) & ~held.common]
        assert chosen.all() or not chosen.any()


def test_a_validation_file_and_what_it_shares_with_the_training_data(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    train = write_lines(talk("a", "b"), talk("c", "d"), talk("e", "f"))
    other = write_lines(talk("c", "d"), talk("c", "d"), talk("g", "h"), name="val.jsonl")
    done = prepared(train, validation=other)
    assert (len(done.train), len(done.validation)) == (3, 2)
    assert done.report.overlap == 1
    assert done.report.validation.duplicates == 1
    assert any("1 are trained on, too" in note for note in done.report.notes())
    assert set(done.report.digests) == {str(train), str(other)}


def test_the_digest_is_of_what_is_learned(prepared: Prepare, write_lines: WriteLines) -> None:
    def digest(*lines: Any) -> str:
        path = write_lines(*lines)
        return prepared(path, skip_bad=True).report.digests[str(path)]

    base = digest(talk("a", "b"))
    assert digest("", talk("a", "b", id=3), "{") == base
    assert digest(talk("a", "c")) != base
    assert digest(talk("a", "b", reward=2)) != base


def test_a_file_that_changes_between_the_passes_is_noticed(
    write_lines: WriteLines, template_of: Callable[[str], Template], tmp_path: Path
) -> None:
    path = write_lines(*many(3))

    def append(done: int, total: int) -> None:
        if done == 1:
            write_lines(*many(5))

    with pytest.raises(DataError, match="changed while it was read"):
        prepare(path, DataOptions(held_out=0), template_of("chatml"), 512, tmp_path / "r", append)
    with pytest.raises(FileNotFoundError):
        RowStore(tmp_path / "r" / "train")


# What the loop draws from


def test_a_run_sees_every_row_once_an_epoch(prepared: Prepare, write_lines: WriteLines) -> None:
    done = prepared(write_lines(*many(60)), held_out=0.2)
    data = PlannedData(done.train, done.validation, Layout(256, 128, 128), seed=1)
    expected = sum(float(row.weights.sum()) for row in done.train)
    for epoch in (0, 1):
        batches = [build() for step in data.steps(epoch) for build in step]
        assert sum(float(batch.weights.sum()) for batch in batches) == expected
    held_out = [build() for build in data.validation()]
    assert sum(batch.supervised for batch in held_out) == done.report.validation.supervised_tokens
    assert data.plan(0) != data.plan(1)


def test_without_validation_rows_there_are_no_batches(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    done = prepared(write_lines(*many(4)))
    assert PlannedData(done.train, done.validation, Layout(64, 64, 64), 0).validation() == []


def test_a_json_list_is_read_as_it_is_and_its_faults_are_counted_by_value(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    text = json.dumps([talk("a", "b"), talk("c", "d"), {"x": 1}], indent=2)
    path = write_lines(text, name="data.json")
    with pytest.raises(DataError, match="value 3: holds no conversation"):
        prepared(path)
    done = prepared(path, skip_bad=True)
    assert done.train.lines.tolist() == [1, 2]
    assert path.read_text() == text + "\n"
