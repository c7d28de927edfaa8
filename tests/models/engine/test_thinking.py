"""Replies that think before they answer, from a real child process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    Finished,
    GenerationRequest,
    Sampling,
    TextDelta,
)
from openchat_local.models.thoughts import USUAL, divide
from support.scripted import OPENS, SWITCHES, THINKS, write_scripted

THOUGHT = ["\nThe", " user", " asks", ".\n"]
PIECES = ["<think>", *THOUGHT, "</think>", "\n\nFour", " it", " is"]
ASKED = Conversation((Message("user", "2+2?"),))
Open = Callable[..., LocalEngine]


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    folder = tmp_path_factory.mktemp("thinkers")
    engines: list[LocalEngine] = []

    def start(template: str, pieces: list[str], **how: object) -> LocalEngine:
        path = write_scripted(folder / f"{len(engines)}.gguf", pieces, template, **how)  # type: ignore[arg-type]
        engines.append(LocalEngine(EngineOptions(path, context=512, threads=1)))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def plain(thinker: Open) -> LocalEngine:
    """One that always thinks."""
    return thinker(THINKS, PIECES)


def replied(engine: LocalEngine, request: GenerationRequest) -> tuple[str, Finished]:
    text = ""
    with closing(engine.generate(request)) as events:
        for event in events:
            if isinstance(event, TextDelta):
                text += event.text
            elif isinstance(event, Finished):
                return text, event
    raise AssertionError("no end")


def greedy(conversation: Conversation, **how: object) -> GenerationRequest:
    return GenerationRequest(conversation, Sampling(0.0, **how))  # type: ignore[arg-type]


def test_the_tokens_of_thoughts_are_counted(plain: LocalEngine) -> None:
    engine, loaded = plain, plain.load()
    assert (loaded.thoughts, loaded.thinking_switch) == (USUAL, False)
    text, finished = replied(engine, greedy(ASKED))
    assert text == "".join(PIECES)
    usage = finished.usage
    assert (usage.reasoning_tokens, usage.generated_tokens) == (6, 10)
    assert 0 < usage.reasoning_seconds <= usage.decode_seconds
    cut, finished = replied(engine, greedy(ASKED, max_tokens=3))
    assert (finished.reason, finished.usage.reasoning_tokens) == ("length", 3)
    assert not divide(cut, USUAL).closed


def test_thoughts_that_the_prompt_has_opened_begin_with_their_mark(thinker: Open) -> None:
    engine = thinker(OPENS, [*THOUGHT, "</think>", "Four"], after="\n")
    text, finished = replied(engine, greedy(ASKED))
    assert text == "<think>\n\nThe user asks.\n</think>Four"
    assert (finished.usage.reasoning_tokens, finished.usage.generated_tokens) == (5, 7)
    cut, _ = replied(engine, greedy(ASKED, max_tokens=2))
    assert divide(cut, USUAL) == ("The user", "", False, len(cut))
    more = Conversation((*ASKED.messages, Message("assistant", cut)))
    rest, on = replied(engine, GenerationRequest(more, Sampling(0.0), continues=True))
    assert cut + rest == text  # nothing is opened twice
    assert on.usage.reasoning_tokens == 3
    assert on.token_ids == finished.token_ids


def test_a_reply_without_thoughts_can_be_asked_for(thinker: Open) -> None:
    engine = thinker(SWITCHES, PIECES, otherwise=["Four!"])
    assert engine.load().thinking_switch
    assert replied(engine, greedy(ASKED))[0].startswith("<think>")
    off = Conversation(ASKED.messages, thinking=False)
    text, finished = replied(engine, greedy(off))
    assert (text, finished.usage.reasoning_tokens) == ("Four!", 0)
    assert engine.count_tokens(off) > engine.count_tokens(ASKED)


def test_what_was_thought_is_not_in_the_next_prompt(plain: LocalEngine) -> None:
    text, _ = replied(plain, greedy(ASKED))
    later = Conversation((*ASKED.messages, Message("assistant", text), Message("user", "+1?")))
    prompt = "".join(plain.render(later).pieces)
    assert "Four it is" in prompt
    assert "asks" not in prompt
