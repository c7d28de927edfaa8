"""What is written to the same prompts under each condition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.evaluation.conditions.side_by_side import Unwritten, prompts_of
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.models.conversation import Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import AdapterChoice
from openchat_local.models.library.adapter_file import AdapterCard
from openchat_local.models.template import Template

CONDITIONS = ("GPT4 Correct", "GPT3")
BARE = AdapterChoice()


def test_prompts_are_the_first_different_ones_of_what_is_measured(
    read: Callable[..., Answers], card: AdapterCard, data: Path, template: Template
) -> None:
    lines = read(card).rows[CONDITIONS[0]].lines.tolist()

    prompts = prompts_of(data, DataOptions(), template, lines[1:], 3)

    assert [prompt[-1].content[-2:] for prompt in prompts] == ["1?", "2?", "4?"]
    assert len(prompts_of(data, DataOptions(), template, lines, 100)) == 4  # asked twice, most
    assert prompts_of(data, DataOptions(), template, lines, 0) == []


def test_answers_are_written_once_and_differ_with_the_condition(
    engine: LocalEngine, tmp_path: Path
) -> None:
    prompts = [(Message("user", "Who are you?"),), (Message("user", "And why?"),)]
    path = tmp_path / "kept"
    unwritten = Unwritten(prompts, CONDITIONS, path, 6)
    assert len(unwritten) == 4
    advanced: list[int] = []

    unwritten.write(engine, BARE, advanced.append)

    found = unwritten.written()
    assert sum(advanced) == 4
    assert set(found) == {(prompt, c) for prompt in prompts for c in CONDITIONS}
    texts = [found[prompts[0], condition].text for condition in CONDITIONS]
    assert texts[0] != texts[1]
    assert len(Unwritten(prompts, CONDITIONS, path, 6)) == 0
    assert Unwritten(prompts, CONDITIONS, path, 6).written() == found
    assert len(Unwritten(prompts, CONDITIONS, path, 7)) == 4
    assert all(one.shown.endswith(" …") for one in found.values() if not one.is_whole)


def test_a_prompt_that_does_not_fit_has_a_sentence_in_place_of_an_answer(
    engine: LocalEngine, tmp_path: Path
) -> None:
    prompt = (Message("user", "far too long " * 99),)
    unwritten = Unwritten([prompt], CONDITIONS[:1], tmp_path / "kept", 6)

    unwritten.write(engine, BARE, lambda _: None)

    one = unwritten.written()[prompt, CONDITIONS[0]]
    assert one.error is not None
    assert one.shown.startswith("(none: ")
    assert len(Unwritten([prompt], CONDITIONS[:1], tmp_path / "kept", 6)) == 1  # not kept
