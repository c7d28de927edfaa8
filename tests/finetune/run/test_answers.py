"""What a report asks: the data's own questions, under its own system prompts."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.data.prepare import Prepared, prepare
from openchat_local.finetune.run.answers import (
    ANSWER_TOKENS,
    Asked,
    compare_answers,
    prompts_to_ask,
)
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    GenerationRequest,
    Sampling,
    TextDelta,
)
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import choose_template
from openchat_local.models.template.vocabulary import Vocabulary
from support.adapters import write_random_adapter


def line(question: str, answer: str, class_name: str, system: str = "") -> dict[str, Any]:
    turns = [("system", system)] * bool(system) + [("user", question), ("assistant", answer)]
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"messages": messages, "class": class_name}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    lines = [
        line("one", "rough", "gpt35"), line("two", "rough", "gpt35"),
        line("three", "fine", "gpt4", "Be kind."), line("four", "finer", "gpt4"),
    ]  # fmt: skip
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


def prepared(data: Path, tiny_path: Path, options: DataOptions, rows: Path) -> Prepared:
    template = choose_template(read_gguf(tiny_path), Vocabulary.open(tiny_path), None)
    return prepare(data, options, template, 256, rows)


def test_the_best_class_is_asked_first_with_its_system_prompt_and_what_is_wanted(
    data: Path, tiny_path: Path, tmp_path: Path
) -> None:
    options = DataOptions(held_out=0)
    done = prepared(data, tiny_path, options, tmp_path / "rows")
    settings = RunSettings("x", tiny_path, data, options)
    assert prompts_to_ask(settings, done, 3) == [
        Asked("three", "Be kind.", "fine", "gpt4"), Asked("four", "", "finer", "gpt4"),
        Asked("one", "", "rough", "gpt35"),
    ]  # fmt: skip


def test_what_is_held_out_is_asked_from_its_own_file(
    data: Path, tiny_path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "val.jsonl"
    other.write_text(json.dumps(line("five", "best", "gpt4")) + "\n")
    options = DataOptions(validation=other)
    done = prepared(data, tiny_path, options, tmp_path / "rows")
    asked = prompts_to_ask(RunSettings("x", tiny_path, data, options), done, 3)
    assert asked == [Asked("five", "", "best", "gpt4")]


def test_answers_are_given_under_the_system_prompt_of_the_data(
    tiny_path: Path, tmp_path: Path
) -> None:
    adapter = write_random_adapter(tmp_path / "a.gguf", tiny_path, size=0.3)
    asked = Asked("Hi", "Be kind.", "Hello")
    with closing(LocalEngine(EngineOptions(tiny_path, context=512))) as engine:
        (answer,) = compare_answers(engine, adapter, [asdict(asked)], ["GPT3"], seconds=60)
        turns = (Message("system", "Be kind."), Message("user", "Hi"))
        sampling = Sampling(temperature=0.0, max_tokens=ANSWER_TOKENS)
        after, bare = (
            "".join(
                event.text
                for event in engine.generate(
                    GenerationRequest(Conversation(asked_turns, "GPT3"), sampling, speculate=False)
                )
                if isinstance(event, TextDelta)
            )
            for asked_turns in (turns, turns[1:])
        )
    assert {**asdict(asked), "conditions": answer["conditions"]} == answer
    (one,) = answer["conditions"]
    assert one["condition"] == "GPT3"
    assert one["after"] == after != bare
    assert one["before"] != after
