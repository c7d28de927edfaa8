"""One request for a reply: what fits, its count and the reply come of one crossing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openchat_local.models.conversation import Conversation, Message, SampledIds
from openchat_local.models.engine import wire
from openchat_local.models.engine.context_window import Fitted, Overflow, fit
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    Finished,
    GenerationRequest,
    PromptFitted,
    Sampling,
    TextDelta,
)
from openchat_local.models.errors import DoesNotFit
from openchat_local.models.template.vocabulary import Vocabulary
from support.engines import asking, run
from support.openchat_gguf import openchat_vocabulary, starter_vocabulary, write_model
from support.wiretap import Wiretap

CONTEXT = 512
SMALL = {"embedding": 64, "heads": 2, "kv_heads": 1, "blocks": 1}
ROLES = ("user", "assistant")


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    return write_model(path, openchat_vocabulary(), **SMALL)


@pytest.fixture(scope="module")
def tiny(tiny_path: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(EngineOptions(tiny_path, context=CONTEXT))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def vocabulary(tiny_path: Path) -> Vocabulary:
    return Vocabulary.open(tiny_path)


def with_ids(conversation: Conversation, vocabulary: Vocabulary) -> Conversation:
    """The same turns; the replies with ids that no tokenizer would choose."""
    turns = tuple(
        replace(turn, sampled=SampledIds.of(spelled_out(vocabulary, turn.content)))
        if turn.role == "assistant"
        else turn
        for turn in conversation.messages
    )
    return Conversation(turns, conversation.condition)


def spelled_out(vocabulary: Vocabulary, text: str) -> list[int]:
    return [id for each in text for id in vocabulary.tokenize_content(each)]


def outcome(act: Callable[[], PromptFitted | Fitted]) -> tuple[str, int, int]:
    """What is said, how many tokens there are, and how many turns are left out of them."""
    try:
        fitted = act()
    except DoesNotFit as refusal:
        return str(refusal), refusal.tokens, 0
    return "", fitted.tokens, fitted.left_out


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(0, 90), min_size=1, max_size=24),
    system=st.sampled_from(["", "Be brief.", "Be brief. " * 40]),
    overflow=st.sampled_from(["drop-oldest", "refuse"]),
    reply_tokens=st.sampled_from([None, 1, 50, 5000]),
    ids=st.booleans(),
)
def test_the_engine_leaves_out_what_the_rule_says(
    tiny: LocalEngine,
    vocabulary: Vocabulary,
    lengths: list[int],
    system: str,
    overflow: Overflow,
    reply_tokens: int | None,
    ids: bool,
) -> None:
    words = ("word " * length + "end" for length in lengths)
    conversation = asking(*words, system=system).conversation
    if ids:
        conversation = with_ids(conversation, vocabulary)
    sampling = Sampling(max_tokens=reply_tokens)
    request = GenerationRequest(conversation, sampling, overflow=overflow)
    assert outcome(lambda: tiny.fit(request)) == outcome(
        lambda: fit(conversation, CONTEXT, tiny.count_tokens, overflow, reply_tokens)
    )


def test_a_reply_says_first_what_was_left_out_of_its_prompt(tiny: LocalEngine) -> None:
    request = replace(
        asking(*["word " * 60] * 21, system="Be brief.", max_tokens=3), overflow="drop-oldest"
    )
    fitted, *_, finished = tiny.generate(request)
    assert isinstance(fitted, PromptFitted)
    assert isinstance(finished, Finished)
    assert fitted == tiny.fit(request)
    assert fitted.left_out > 0
    assert finished.usage.prompt_tokens == fitted.tokens
    with pytest.raises(DoesNotFit, match=r"512.*drop-oldest"):
        list(tiny.generate(replace(request, overflow="refuse")))


def test_a_reply_that_is_gone_on_from_is_counted_as_it_is_written(tiny: LocalEngine) -> None:
    request = replace(asking("Count.", "One, two,", max_tokens=2), continues=True)
    fitted, *_, finished = tiny.generate(request)
    assert isinstance(fitted, PromptFitted)
    assert isinstance(finished, Finished)
    assert fitted == tiny.fit(request)
    assert finished.usage.prompt_tokens == fitted.tokens
    assert fitted.tokens < tiny.count_tokens(request.conversation), "its turn is closed"


def test_a_chat_goes_from_model_to_model_and_its_ids_with_the_right_one(
    tiny_path: Path, tmp_path: Path, starter_path: Path
) -> None:
    other_path = tmp_path / "other.gguf"
    write_model(other_path, starter_vocabulary(starter_path), **SMALL)
    vocabulary = Vocabulary.open(other_path)
    text = "The sea is wide."
    ids = spelled_out(vocabulary, text)
    reply = Message("assistant", text, SampledIds.of(ids, vocabulary.fingerprint))
    turns = asking("Tell me of the sea.", reply, "And?", max_tokens=2)
    plain = asking("Tell me of the sea.", text, "And?").conversation

    engine = LocalEngine(EngineOptions(other_path, context=CONTEXT))
    try:
        here = engine.render(turns.conversation)
        assert len(here.ids) == engine.count_tokens(plain) + len(ids) - len(
            vocabulary.tokenize_content(text)
        )
        assert run(engine, turns)[1].usage.prompt_tokens == len(here.ids)
        assert run(engine, turns)[1].vocabulary == vocabulary.fingerprint
        engine.set_model(tiny_path)
        assert engine.render(turns.conversation) == engine.render(plain)
        _, finished = run(engine, turns)
        assert finished.usage.prompt_tokens == engine.count_tokens(plain)
        assert finished.vocabulary == Vocabulary.open(tiny_path).fingerprint
        engine.set_model(other_path)
        assert engine.render(turns.conversation) == here
    finally:
        engine.close()


# What crosses


@pytest.mark.skipif(os.name == "nt", reason="a shell stands in between")
def test_a_conversation_goes_to_the_engine_once_a_reply(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tap = Wiretap(tmp_path, monkeypatch)
    engine = LocalEngine(EngineOptions(tiny_path, context=CONTEXT))
    turns = ["word " * 60 + f"turn {number}" for number in range(21)]
    request = replace(asking(*turns, max_tokens=4), overflow="drop-oldest")
    events = list(engine.generate(request))
    engine.close()
    assert any(isinstance(event, TextDelta) for event in events)
    load, generate = tap.frames()
    assert (load["do"], generate["do"]) == ("load", "generate")
    sent = wire.unpack_conversation(generate["conversation"])
    assert sent == request.conversation


def test_ids_go_along_as_far_back_as_the_context_reaches() -> None:
    sampled = SampledIds.of(range(100), "v")
    turns = [Message(ROLES[n % 2], str(n), sampled if n % 2 else None) for n in range(10)]
    conversation = Conversation(tuple(turns), "GPT4")
    arrived = wire.unpack_conversation(wire.pack_conversation(conversation, 250))
    assert arrived == conversation
    assert [turn.sampled for turn in arrived.messages] == [None] * 5 + [sampled, None] * 2 + [
        sampled
    ]
    whole = wire.unpack_conversation(wire.pack_conversation(conversation))
    assert [turn.sampled for turn in whole.messages] == [turn.sampled for turn in turns]
