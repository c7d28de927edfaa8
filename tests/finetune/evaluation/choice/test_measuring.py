"""Likelihoods against NumPy over llama.cpp's own logits; what is shared, kept and too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.evaluation.choice.judging import pooled, standings
from openchat_local.finetune.evaluation.choice.measuring import Finding, Method, measure
from openchat_local.finetune.evaluation.choice.prompts import writer_for
from openchat_local.finetune.evaluation.choice.question import Question
from openchat_local.finetune.evaluation.choice.reading import QuestionSet, read_sets
from openchat_local.finetune.evaluation.choice.report import report
from openchat_local.finetune.evaluation.choice.session import Findings, find_all
from openchat_local.finetune.evaluation.contender import Contender, contender
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import AdapterChoice, EngineOptions, ScoreRequest
from openchat_local.models.gguf import GGUFFile
from support.adapters import Logits, write_random_adapter

ROUNDING = 0.01  # nats; attention is in float16, and kernels differ with the number of rows
BARE = AdapterChoice()
PLAIN, CHAT, ANSWER = Method(plain=True), Method(), Method("answer", max_tokens=6)

Write, RowsOf = Callable[..., Path], Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def base(small: GGUFFile) -> Contender:
    return contender("base", small.path)


@pytest.fixture(scope="module")
def logits(small: GGUFFile) -> Iterator[Logits]:
    made = Logits(small.path)
    yield made
    made.close()


@pytest.fixture
def sets(write_rows: Write, random_rows: RowsOf) -> list[QuestionSet]:
    return read_sets([write_rows("words", random_rows(6))])


def by_key(sets: Sequence[QuestionSet], method: Method) -> dict[str, Question]:
    return {method.key(question): question for one in sets for question in one.questions}


def found(
    engine: LocalEngine,
    base: Contender,
    sets: Sequence[QuestionSet],
    method: Method,
    size: int = 512,
) -> dict[str, Finding]:
    writer = writer_for(base, plain=method.plain)
    findings = measure(engine, BARE, method, writer, by_key(sets, method), 512)
    return {finding["question"]: finding for finding in findings}


def in_numpy(logits: Logits, prompt: Sequence[int], continuation: Sequence[int]) -> float:
    """The sum of the continuation's log-probabilities, a token at a time."""
    rows = logits([*prompt, *continuation]).astype(np.float64)[len(prompt) - 1 : -1]
    normalisers = np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1)) + rows.max(1)
    return float((rows[np.arange(len(rows)), continuation] - normalisers).sum())


def test_plain_likelihoods_are_those_of_numpy(
    engine: LocalEngine, base: Contender, logits: Logits, sets: list[QuestionSet]
) -> None:
    findings = found(engine, base, sets, PLAIN)
    vocabulary = logits.model.vocabulary
    for question in sets[0].questions[:3]:
        own = findings[PLAIN.key(question)]["log_likelihoods"]
        prompt = [1, *vocabulary.tokenize_content(question.contexts[0], leading_space=True)]
        for option, likelihood in zip(question.options, own, strict=True):
            tail = vocabulary.tokenize_content(option, leading_space=True)
            assert likelihood == pytest.approx(in_numpy(logits, prompt, tail), abs=ROUNDING)


def test_through_the_template_likelihoods_are_those_of_the_engines_own_prompt(
    engine: LocalEngine, base: Contender, logits: Logits, sets: list[QuestionSet]
) -> None:
    findings = found(engine, base, sets, CHAT)
    writer, vocabulary = writer_for(base), logits.model.vocabulary
    assert writer.condition == "GPT4 Correct"
    for question in sets[0].questions[:3]:
        own = findings[CHAT.key(question)]["log_likelihoods"]
        asked = replace(writer.conversation(question.contexts[0]), condition=None)
        prompt = engine.render(asked).ids
        requests = [ScoreRequest(asked, option) for option in question.options]
        scores = {score.index: score for score in engine.score(requests)}
        for index, option in enumerate(question.options):
            tail = vocabulary.tokenize_content(option, leading_space=True)
            assert scores[index].ids == tuple(tail)
            assert own[index] == pytest.approx(scores[index].log_probability, abs=ROUNDING)
            assert own[index] == pytest.approx(in_numpy(logits, prompt, tail), abs=ROUNDING)


def test_white_space_at_the_end_of_a_context_is_the_continuations(
    base: Contender, write_rows: Write
) -> None:
    row = {"question": "river ", "options": ["one stone", "two"], "label": 0}
    [[question]] = [one.questions for one in read_sets([write_rows("space", [row])])]
    writer = writer_for(base, plain=True)
    (prompt, tail), _ = writer.options(question)
    vocabulary = writer.template.vocabulary
    assert vocabulary.detokenize(prompt) == b"<s> river"
    assert vocabulary.detokenize(tail) == b"  one stone"


def test_options_share_their_questions_evaluation(
    engine: LocalEngine, base: Contender, sets: list[QuestionSet]
) -> None:
    findings = found(engine, base, sets, CHAT)
    writer = writer_for(base)
    for question in sets[0].questions:
        pairs = writer.options(question)
        finding = findings[CHAT.key(question)]
        whole = sum(len(prompt) + len(tail) - 1 for prompt, tail in pairs)
        assert finding["tokens"] + finding["shared"] == whole
        assert finding["shared"] >= 3 * len(pairs[0][0])  # of four options


def test_equal_questions_are_measured_once(
    engine: LocalEngine, base: Contender, write_rows: Write, random_rows: RowsOf
) -> None:
    twice = read_sets([write_rows("twice", random_rows(2) * 2)])
    assert len(found(engine, base, twice, CHAT)) == 2


def test_a_question_longer_than_the_context_is_counted_apart(
    engine: LocalEngine, base: Contender, write_rows: Write, random_rows: RowsOf, tmp_path: Path
) -> None:
    rows = random_rows(3)
    rows[1]["question"] += " stone" * 600
    sets = read_sets([write_rows("long", rows)])
    for method in (CHAT, PLAIN, ANSWER):
        findings = find_all([base], sets, method, lambda _: engine, tmp_path)
        [long] = findings.too_long(sets)
        assert (long.set_name, long.line, long.contender, long.context) == ("long", 2, "base", 512)
        assert 600 < long.tokens < 700
        assert len(findings.judged(sets)[0].questions) == 2
        notes = report("t", [base], sets, findings, {}).notes
        assert "1 question is longer than the context, and counted apart:" in notes
        assert any(note.startswith("long, line 2: ") for note in notes)


def test_answers_are_greedy_and_short(
    engine: LocalEngine, base: Contender, sets: list[QuestionSet]
) -> None:
    findings = found(engine, base, sets, ANSWER)
    assert len(findings) == 6
    assert all(0 < finding["tokens"] <= 6 for finding in findings.values())
    again = found(engine, base, sets, ANSWER)
    assert {key: one["reply"] for key, one in again.items()} == {
        key: one["reply"] for key, one in findings.items()
    }


def no_engine(asked: Contender) -> LocalEngine:
    raise AssertionError(f"{asked.label} was measured before")


def test_what_was_measured_is_not_measured_again(
    engine: LocalEngine, base: Contender, write_rows: Write, random_rows: RowsOf, tmp_path: Path
) -> None:
    rows = random_rows(6)
    few = read_sets([write_rows("few", rows[:4])])
    first = find_all([base], few, CHAT, lambda _: engine, tmp_path)
    assert first.fresh == 4
    again = find_all([base], few, CHAT, no_engine, tmp_path)
    assert (again.fresh, again.of) == (0, first.of)
    more = read_sets([write_rows("more", rows)])
    assert find_all([base], more, CHAT, lambda _: engine, tmp_path).fresh == 2
    assert find_all([base], few, PLAIN, lambda _: engine, tmp_path).fresh == 4


def test_what_was_found_before_an_interruption_is_kept(
    engine: LocalEngine, base: Contender, sets: list[QuestionSet], tmp_path: Path
) -> None:
    kept = Findings(CHAT)

    def stop(_label: str, _share: float) -> None:
        if kept.fresh == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_all([base], sets, CHAT, lambda _: engine, tmp_path, found=kept, progress=stop)
    assert len(kept.of["base"]) == 2
    assert find_all([base], sets, CHAT, lambda _: engine, tmp_path).fresh == 4


def test_a_larger_context_measures_what_was_too_long(
    engine: LocalEngine,
    base: Contender,
    write_rows: Write,
    random_rows: RowsOf,
    tmp_path: Path,
) -> None:
    rows = random_rows(2)
    rows[1]["question"] += " stone" * 300
    sets = read_sets([write_rows("long", rows)])
    with closing(LocalEngine(EngineOptions(base.model, context=256))) as little:
        findings = find_all([base], sets, CHAT, lambda _: little, tmp_path, context=256)
    assert [one.line for one in findings.too_long(sets)] == [2]
    again = find_all([base], sets, CHAT, no_engine, tmp_path, context=256)
    assert [one.line for one in again.too_long(sets)] == [2]
    findings = find_all([base], sets, CHAT, lambda _: engine, tmp_path, context=512)
    assert findings.fresh == 1
    assert not [*findings.too_long(sets)]


def test_that_one_letter_is_right_or_chosen_nearly_always_is_told(
    base: Contender, write_rows: Write, random_rows: RowsOf
) -> None:
    rows = [row | {"label": 1} for row in random_rows(20)]
    sets = read_sets([write_rows("words", rows)])
    findings = Findings(CHAT)
    likelihoods = {"log_likelihoods": [-1.0, -9.0, -9.0, -9.0]}
    findings.of["base"] = dict.fromkeys(by_key(sets, CHAT), likelihoods)
    notes = report("t", [base], sets, findings, {}).notes
    assert any(note.startswith("In words B is right in 20 of 20 questions") for note in notes)
    assert any(note.startswith("In words base chose A in 20 of 20 questions") for note in notes)


def test_an_adapter_that_knows_the_answers_wins_and_one_that_forgot_them_loses(
    engine: LocalEngine,
    base: Contender,
    small: GGUFFile,
    write_rows: Write,
    random_rows: RowsOf,
    tmp_path: Path,
) -> None:
    path = write_random_adapter(tmp_path / "mine" / "adapter.gguf", small.path, size=0.2)
    mine = contender("mine", small.path, path)
    rows = random_rows(40)
    sets = read_sets([write_rows("words", rows)])
    findings = find_all([base, mine], sets, CHAT, lambda _: engine, tmp_path)
    [judged] = findings.judged(sets)
    picks = {label: [one.pick for one in choices] for label, choices in judged.choices.items()}
    differ = [a != b for a, b in zip(picks["base"], picks["mine"], strict=True)]
    assert sum(differ) > 10, "an adapter of this size changes much"
    for knows, sign in (("mine", 1), ("base", -1)):
        # What one of them picks is made the truth: it is right everywhere, the other is not.
        named = [row | {"label": pick} for row, pick in zip(rows, picks[knows], strict=True)]
        sets = read_sets([write_rows(f"{knows} knows", named)])
        known = find_all([base, mine], sets, CHAT, no_engine, tmp_path)
        result = report("t", [base, mine], sets, known, {})
        _, standing = standings(pooled(known.judged(sets), "all"), "base")
        assert standing.change is not None
        assert standing.change.won - standing.change.lost == sign * sum(differ)
        assert standing.change.p < 0.001
        verb = "rose" if sign > 0 else "fell"
        assert f"{knows} knows {verb} by" in result.sentences[0]
        assert ", significant on 40 questions" in result.sentences[0]
