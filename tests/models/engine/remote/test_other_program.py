"""A remote engine that is another `openchat-local serve`: as good as the engine that it serves."""

from __future__ import annotations

from contextlib import closing

import pytest

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    GenerationRequest,
    Sampling,
    ScoreRequest,
)
from openchat_local.models.errors import DoesNotFit, EngineError, ModelLoadError
from support.engines import asking, run
from support.other_program import CONTEXT, Other


def test_it_is_recognised_and_can_do_what_we_can(other: Other) -> None:
    with closing(other.remote()) as engine:
        model = engine.load()
    assert model.name.startswith("openchat-tiny@127.0.0.1:")
    assert (model.context, model.template) == (CONTEXT, "remote")
    assert model.default_condition == "GPT4 Correct"
    assert model.remote is not None
    can = model.remote.can
    assert can.kind == "openchat-local"
    assert can.models == ("openchat-tiny", "openchat-tiny:mine")
    for ability in ("adapters", "conditions", "counts", "scoring", "continuing"):
        assert model.remote.why_not(ability) is None  # type: ignore[arg-type]
    assert model.remote.misses("min_p") is None
    assert (model.thoughts, model.thinking_switch) == (None, False)


def test_a_reply_is_the_one_of_the_engine_behind_it(other: Other) -> None:
    request = asking("Tell me a story.", max_tokens=12)
    here, there = run(other.engine, request), run(other.remote(), request)
    assert there[0] == here[0]
    assert there[1].usage.prompt_tokens == here[1].usage.prompt_tokens
    assert there[1].usage.generated_tokens == here[1].usage.generated_tokens


def test_conditions_and_adapters_are_asked_for(other: Other) -> None:
    turns = (Message("user", "Tell me a story."),)
    sampling = Sampling(temperature=0.0, max_tokens=12)
    choice = AdapterChoice(other.adapter)
    request = GenerationRequest(Conversation(turns, "Math Correct"), sampling, adapter=choice)
    asked = GenerationRequest(Conversation(turns, "Math Correct"), sampling)
    assert run(other.remote("openchat-tiny:mine"), asked)[0] == run(other.engine, request)[0]
    with closing(other.remote("::mine")) as engine:
        assert engine.load().name.startswith("openchat-tiny:mine@")
    with pytest.raises(ModelLoadError, match="no model 'openchat-tiny:yours'"):
        other.remote("openchat-tiny::yours").load()


def test_tokens_are_counted_as_they_are_there(other: Other) -> None:
    conversation = asking("Tell me a story.", "Once", "Go on.", system="Be brief.").conversation
    with closing(other.remote()) as engine:
        assert engine.count_tokens(conversation) == other.engine.count_tokens(conversation)
        assert engine.tokenize("Tell me") == other.engine.tokenize("Tell me")


def test_a_chat_that_is_too_long_loses_the_same_turns(other: Other) -> None:
    turns = [f"{number} {'word ' * 60}" for number in range(40)]
    conversation = asking(*turns, "Last").conversation
    request = GenerationRequest(
        conversation, Sampling(temperature=0.0, max_tokens=4), overflow="drop-oldest"
    )
    with closing(other.remote()) as engine:
        assert engine.fit(request) == other.engine.fit(request)
        assert run(engine, request)[0] == run(other.engine, request)[0]
        with pytest.raises(DoesNotFit):
            run(engine, GenerationRequest(conversation, request.sampling))


def test_likelihoods_are_those_of_the_engine_behind_it(other: Other) -> None:
    conversation = asking("Tell me a story.").conversation
    ids = other.engine.tokenize("Tell me a story about a dog.")
    requests = [
        ScoreRequest(conversation, "Once upon a time"),
        ScoreRequest(ids[:3], ids[3:]),
        ScoreRequest(ids[:1], ids[1:], judged=((0, 2), (4, 5))),
    ]
    with closing(other.remote()) as engine:
        there = {score.index: score for score in engine.score(requests)}
    for here in other.engine.score(requests):
        score = there[here.index]
        assert score.ids == here.ids
        assert score.greedy == here.greedy
        assert score.log_probabilities == pytest.approx(here.log_probabilities, abs=1e-4)


def test_a_reply_is_continued_and_held_to_a_schema(other: Other) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=60, json_schema={"enum": ["yes", "no"]})
    with closing(other.remote()) as engine:
        text, finished = run(engine, GenerationRequest(asking("Yes?").conversation, sampling))
        assert text in ('"yes"', '"no"')
        assert finished.complete
        begun = asking("Tell me a story.", "Once upon").conversation
        request = GenerationRequest(begun, Sampling(temperature=0.0, max_tokens=6), continues=True)
        assert run(engine, request)[0] == run(other.engine, request)[0]


def test_a_top_that_has_no_ids_is_refused(other: Other) -> None:
    with closing(other.remote()) as engine, pytest.raises(EngineError, match="likeliest"):
        list(engine.score([ScoreRequest((1, 2), (3,), top=2)]))
