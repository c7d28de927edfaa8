"""Questions that are asked: once each, kept as they come, and counted for what they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from openchat_local.finetune.evaluation.answers.asking import (
    Replies,
    ask_questions,
    check_samples,
    kept_replies,
    missing,
)
from openchat_local.finetune.evaluation.answers.faults import AnswersError
from openchat_local.finetune.evaluation.answers.judging import Outcome, judge, majority
from openchat_local.finetune.evaluation.answers.matching import (
    Answer,
    Reader,
    gold_of,
    read_rule,
)
from openchat_local.finetune.evaluation.answers.questions import Question, Questions
from openchat_local.finetune.evaluation.answers.report import result_of
from openchat_local.finetune.evaluation.contender import Contender
from openchat_local.finetune.evaluation.result import Result
from openchat_local.finetune.evaluation.rows import RowFile
from openchat_local.models.conversation import Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    EngineOptions,
    Finished,
    GenerationEvent,
    GenerationRequest,
    Sampling,
    Usage,
)
from openchat_local.models.errors import ContextOverflow, EngineDied
from support.answering import AnsweringEngine, Says
from support.openchat_gguf import openchat_vocabulary, write_model

AUTO = read_rule("auto")


def contender(label: str = "base", **sampling: float) -> Contender:
    drawn = Sampling(**{"temperature": 0.0, "max_tokens": 8, "seed": 0} | sampling)  # type: ignore[arg-type]
    return Contender(label, Path("m.gguf"), AdapterChoice(), "C", drawn, None, "0", label)


def questions(*pairs: tuple[str, str]) -> list[Question]:
    return [
        Question(line, str(line), asked, (Message("user", asked),), (right,))
        for line, (asked, right) in enumerate(pairs, 1)
    ]


def outcomes(asked: Sequence[Question], replies: Replies, samples: int) -> list[Outcome | None]:
    golds = [gold for one in asked if (gold := gold_of(AUTO, one.answers)) is not None]
    with Reader(AUTO) as reader:
        return judge(asked, golds, replies, samples, reader)


@pytest.fixture
def file(tmp_path: Path) -> RowFile:
    return RowFile(tmp_path / "cache" / "answers.jsonl")


def ask(says: Says, asked: Sequence[Question], file: RowFile, samples: int = 1) -> Replies:
    who = contender(temperature=0.7) if samples > 1 else contender()
    with file:
        return ask_questions(AnsweringEngine(says), who, asked, samples, file)


def test_each_question_is_asked_once_under_the_condition(file: RowFile) -> None:
    asked = questions(("1 + 1?", "2"), ("1 + 2?", "3"), ("1 + 1?", "two"))
    engine = AnsweringEngine(lambda prompt, _: prompt.replace("?", ""))
    with file:
        replies = ask_questions(engine, contender(), asked, 1, file)
    assert len(engine.asked) == 2  # the third is the first
    assert {request.conversation.condition for request in engine.asked} == {"C"}
    assert not any(request.exact for request in engine.asked)  # else each is decoded alone
    assert replies[asked[1].digest, 0].text == "1 + 2"
    again = AnsweringEngine(lambda prompt, _: "other")
    assert ask_questions(again, contender(), asked, 1, file) == replies
    assert again.asked == []


def test_samples_have_seeds_of_their_own_and_stand_together(file: RowFile) -> None:
    asked = questions(("a", "1"), ("b", "1"))
    engine = AnsweringEngine(lambda _, seed: str(seed))
    with file:
        replies = ask_questions(engine, contender(temperature=1.0), asked, 4, file)
    assert len({reply.text for reply in replies.values()}) == 8
    keys = missing(asked, 4, {})
    assert [digest for digest, _ in keys] == [asked[0].digest] * 4 + [asked[1].digest] * 4
    # The same run again draws the same seeds; more samples go on from there.
    more = AnsweringEngine(lambda _, seed: str(seed))
    with file:
        grown = ask_questions(more, contender(temperature=1.0), asked, 6, file)
    assert len(more.asked) == 4
    assert replies.items() <= grown.items()


class Watched(LocalEngine):
    """Notes what each reply cost."""

    usages: ClassVar[list[Usage]] = []

    def generate(self, request: GenerationRequest) -> Generator[GenerationEvent, None, None]:
        for event in super().generate(request):
            if isinstance(event, Finished):
                self.usages.append(event.usage)
            yield event


def test_the_prompt_of_all_samples_is_evaluated_once(file: RowFile, tmp_path: Path) -> None:
    model = write_model(
        tmp_path / "tiny.gguf", openchat_vocabulary(), embedding=64, heads=2, kv_heads=1, blocks=1
    )
    asked = questions(("word " * 200, "1"), ("other " * 200, "1"))
    who = replace(contender(temperature=1.0, max_tokens=4), model=model)
    with closing(Watched(EngineOptions(model, context=1024, threads=1))) as engine, file:
        ask_questions(engine, who, asked, 6, file)
    assert len(engine.usages) == 12
    prompts = sum(usage.prompt_tokens for usage in engine.usages)
    # Of each the whole once; of the others the last few tokens.
    assert sum(usage.evaluated_tokens for usage in engine.usages) < prompts / 3


def test_several_samples_need_a_temperature() -> None:
    with pytest.raises(AnswersError, match="--temperature above 0"):
        check_samples(Sampling(temperature=0), 2)
    check_samples(Sampling(temperature=0), 1)
    check_samples(Sampling(temperature=0.5), 2)


def test_what_came_before_an_engine_died_is_kept(file: RowFile) -> None:
    asked = questions(*((str(n), "1") for n in range(40)))

    def dies(prompt: str, _: int | None) -> str | EngineDied:
        return EngineDied("It ended.") if prompt == "30" else prompt

    with pytest.raises(EngineDied):
        ask(dies, asked, file)
    kept = len(kept_replies(file))
    assert 0 < kept < 40
    rest = AnsweringEngine(lambda prompt, _: prompt)
    with file:
        replies = ask_questions(rest, contender(), asked, 1, file)
    assert len(rest.asked) == 40 - kept
    assert [replies[one.digest, 0].text for one in asked] == [one.text for one in asked]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.answering import AnsweringEngine
from openchat_local.finetune.evaluation.answers.asking import ask_questions
from openchat_local.finetune.evaluation.answers.questions import Question
from openchat_local.finetune.evaluation.contender import Contender
from openchat_local.finetune.evaluation.rows import RowFile
from openchat_local.models.conversation import Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    EngineOptions,
    Finished,
    GenerationEvent,
    GenerationRequest,
    Sampling,
    Usage,
)

asked = [Question(n, str(n), str(n), (Message("user", str(n)),), ("1",)) for n in range(20)]
who = Contender("base", Path("m"), AdapterChoice(), None, Sampling(temperature=0), None, "0", None)
came = []

def kill(reply):
    came.append(reply)
    if len(came) == 7:
        with open(sys.argv[2], "ab") as file:
            file.write(b'{"question": "torn')
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

ask_questions(
    AnsweringEngine(lambda prompt, _: prompt), who, asked, 1, RowFile(Path(sys.argv[2])), kill
)
"""


def test_a_killed_run_goes_on_where_it_was(file: RowFile) -> None:
    support = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, support, str(file.path)], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert done.stderr == ""
    assert len(kept_replies(file)) == 7
    asked = questions(*((str(n), "1") for n in range(20)))
    engine = AnsweringEngine(lambda prompt, _: prompt)
    with file:
        replies = ask_questions(engine, contender(), asked, 1, file)
    assert len(engine.asked) == 13
    uninterrupted = RowFile(file.path.with_name("other.jsonl"))
    whole = ask(lambda prompt, _: prompt, asked, uninterrupted)
    assert {k: v.text for k, v in replies.items()} == {k: v.text for k, v in whole.items()}
    assert kept_replies(file).keys() == whole.keys()


def test_rows_that_are_none_are_asked_again(file: RowFile) -> None:
    asked = questions(("a", "1"))
    with file:
        file.append({"question": asked[0].digest, "sample": "zero"})
        file.append({"question": asked[0].digest})
    assert kept_replies(file) == {}
    assert len(ask(lambda *_: "1", asked, file)) == 1


def test_a_question_that_does_not_fit_counts_for_nobody(file: RowFile) -> None:
    asked = questions(("long", "1"), ("short", "1"))

    def says(prompt: str, _: int | None) -> str | ContextOverflow:
        return ContextOverflow("It has 900 tokens, and 512 fit.") if prompt == "long" else "1"

    replies = ask(says, asked, file)
    other = ask(lambda *_: "1", asked, RowFile(file.path.with_name("other.jsonl")))
    found = [outcomes(asked, own, 1) for own in (replies, other)]
    assert [one is None for one in found[0]] == [True, False]
    result = report(asked, found, [replies, other])
    assert result.summary["questions"] == 1
    assert result.summary["unasked"] == 1
    assert "row 1: It has 900 tokens, and 512 fit." in " ".join(result.notes)
    assert len(kept_replies(file)) == 1  # tried again with a larger context
    with pytest.raises(AnswersError, match=r"None of the questions .* It has 900 tokens"):
        report(asked[:1], [found[0][:1], found[1][:1]], [replies, other])


def report(
    asked: Sequence[Question],
    found: Sequence[Sequence[Outcome | None]],
    replies: Sequence[Replies],
    samples: int = 1,
) -> Result:
    path = Path(__file__)
    who = [contender("base"), contender("mine")][: len(found)]
    read = Questions(path, tuple(asked), ())
    return result_of(who, read, found, replies, AUTO, {"samples": samples})


def answers(*texts: str | None) -> list[Answer | None]:
    return [None if text is None else Answer(text, text) for text in texts]


@pytest.mark.parametrize(
    ("given", "winner", "count", "tied"),
    [
        (["1", "2", "1"], "1", 2, False),
        (["2", "1"], "2", 1, True),
        (["1", "2", "2", "1", "3"], "1", 2, True),
        ([None, None, "5"], "5", 1, False),
        ([None, None], None, 0, False),
        ([], None, 0, False),
    ],
)
def test_the_majority_is_what_most_said_and_of_equals_the_first(
    given: list[str | None], winner: str | None, count: int, tied: bool
) -> None:
    vote = majority(answers(*given))
    assert (None if vote.answer is None else vote.answer.text) == winner
    assert (vote.count, vote.tied) == (count, tied)


def test_numbers_that_say_the_same_vote_together(file: RowFile) -> None:
    said = iter(["7", "1/2", "0.5", "The answer is 50%", "nothing", "8"])
    replies = ask(lambda *_: next(said), asked := questions(("a", "0.5")), file, samples=6)
    [outcome] = outcomes(asked, replies, 6)
    assert outcome is not None
    assert outcome.vote.count == 2
    assert outcome.right
    assert outcome.rights == 3
    assert outcome.state == "right"


def test_what_is_no_answer_is_not_wrong_and_what_was_cut_is_counted(file: RowFile) -> None:
    asked = questions(("right", "1"), ("wrong", "1"), ("silent", "1"), ("long", "1"))
    says = {"right": "1", "wrong": "2", "silent": "no idea", "long": "2 3 4 5 6 7 8 9 10 11"}
    replies = ask(lambda prompt, _: says[prompt], asked, file)
    found = outcomes(asked, replies, 1)
    assert [one.state for one in found if one] == ["right", "wrong", "no answer", "no answer"]
    result = report(asked, [found], [replies])
    [score] = result.summary["scores"]
    assert (score["right"], score["wrong"], score["no_answer"], score["cut_replies"]) == (
        1,
        1,
        2,
        1,
    )
    assert score["share"] == 0.25
    assert result.sentences == [
        "base has 1 of 4 right: 25.0 %, and between 4.6 and 69.9 % at 95 %."
    ]
    assert "a larger --max-tokens" in " ".join(result.notes)
    [row] = [row for row in result.rows if row["id"] == "3"]
    assert row["contenders"]["base"]["state"] == "no answer"
    titles = [table.title for table in result.tables]
    assert titles == [
        "Right answers", "base: right, 1 of 1", "base: wrong, 1 of 1", "base: no answer, 2 of 2",
    ]  # fmt: skip


def compared(
    file: RowFile, base: Callable[[int], str], mine: Callable[[int], str], count: int = 40
) -> Result:
    asked = questions(*((str(n), "1") for n in range(count)))
    first = ask(lambda prompt, _: base(int(prompt)), asked, file)
    other = ask(
        lambda prompt, _: mine(int(prompt)), asked, RowFile(file.path.with_suffix(".other"))
    )
    replies = [first, other]
    return report(asked, [outcomes(asked, own, 1) for own in replies], replies)


def test_an_adapter_that_learned_it_is_significantly_better(file: RowFile) -> None:
    result = compared(file, lambda n: "12"[n % 2], lambda _: "1")
    [change] = result.summary["changes"]
    assert (change["gained"], change["lost"], change["points"]) == (20, 0, 50.0)
    assert change["p"] < 1e-5
    [sentence] = result.sentences
    assert sentence.startswith(
        "mine has 50.0 points more right than base, which is more than chance"
    )
    assert "(p = 2e-06 by McNemar's test on 40 questions: 20 that base has not, 0 the" in sentence
    assert "Right with mine alone, 4 of 20" in [table.title for table in result.tables]


def test_an_adapter_that_forgot_a_little_may_be_chance(file: RowFile) -> None:
    result = compared(file, lambda n: "1", lambda n: "2" if n < 3 else "1")
    assert "7.5 points less right than base, not significant" in result.sentences[0]
    assert "Right with base alone, 3 of 3" in [table.title for table in result.tables]


def test_adapters_that_change_nothing_are_said_so(file: RowFile) -> None:
    result = compared(file, lambda n: "12"[n % 2], lambda n: "12"[n % 2])
    assert result.sentences == ["mine has the same questions right as base: 20 of 40."]
    swapped = compared(
        RowFile(file.path.with_name("s.jsonl")), lambda n: "12"[n % 2], lambda n: "21"[n % 2]
    )
    assert "mine has as many right as base" in swapped.sentences[0]


def test_samples_are_told_as_votes_each_and_any(file: RowFile) -> None:
    asked = questions(("a", "1"), ("b", "1"))
    said = {"a": iter("1222"), "b": iter("1221")}
    replies = ask(lambda prompt, _: next(said[prompt]), asked, file, samples=4)
    result = report(asked, [outcomes(asked, replies, 4)], [replies], samples=4)
    [score] = result.summary["scores"]
    assert (score["share_any"], score["share_of_samples"]) == (1.0, 3 / 8)
    table = result.tables[0]
    assert table.columns[7:10] == ("any of 4", "each", "ties")
    assert "a tie by the one that came first" in table.note
