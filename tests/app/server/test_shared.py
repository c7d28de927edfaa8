"""A window that the server opens, on the server's engine: no difference to see but the memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    Engine,
    EngineOptions,
    Finished,
    GenerationRequest,
    Sampling,
    ScoreRequest,
    TextDelta,
)
from openchat_local.models.engine.remote.address import read_address
from openchat_local.models.engine.remote.options import RemoteOptions
from openchat_local.models.engine.remote.requests import chat_body
from openchat_local.models.engine.remote.shared import SharedEngine
from openchat_local.models.errors import EngineError
from support.serving import Client, until

from .conftest import CONTEXT, World

ASKED = Conversation((Message("user", "Who are you? 你好 👋🏽"),))
REQUEST = GenerationRequest(ASKED, Sampling(temperature=0, max_tokens=12), chat_key="a-chat")


@pytest.fixture(scope="module")
def shared(world: World, client: Client) -> Iterator[SharedEngine]:
    options = RemoteOptions(read_address(client.url), client.url)
    vocabulary = LocalEngine(EngineOptions(world.base, vocab_only=True, threads=1))
    with closing(SharedEngine(options, vocabulary, world.library)) as engine:
        yield engine


def reply(engine: Engine, request: GenerationRequest) -> tuple[str, Finished]:
    events = list(engine.generate(request))
    assert isinstance(events[-1], Finished)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), events[-1]


def test_it_says_of_itself_what_the_servers_engine_does(world: World, shared: SharedEngine) -> None:
    theirs, ours = world.engine.load(), shared.load()
    assert (ours.name, ours.path, ours.template) == (theirs.name, theirs.path, theirs.template)
    assert (ours.context, ours.sequences) == (CONTEXT, theirs.sequences)
    assert ours.remote is None
    assert shared.render(ASKED) == world.engine.render(ASKED)
    assert shared.count_tokens(ASKED) == world.engine.count_tokens(ASKED)
    assert shared.fit(REQUEST).tokens == world.engine.fit(REQUEST).tokens
    assert shared.tokenize("a b") == world.engine.tokenize("a b")
    assert shared.vocabulary() == world.engine.vocabulary()


def test_replies_are_those_of_the_engine_with_every_adapter_and_condition(
    world: World, shared: SharedEngine
) -> None:
    said = set()
    for name in (None, "mine", "yours"):
        path = None if name is None else world.library.resolve(name)
        for condition in (None, "Math Correct", ""):
            request = replace(
                REQUEST,
                adapter=AdapterChoice(path),
                conversation=replace(ASKED, condition=condition),
            )
            text, end = reply(shared, request)
            assert (text, end.adapter) == (reply(world.engine, request)[0], name)
            assert end.usage.generated_tokens == 12
            said.add(text)
    assert len(said) > 3


def test_an_adapter_is_put_in_force_and_replies_go_on_with_it(
    world: World, shared: SharedEngine
) -> None:
    path = world.library.resolve("mine")
    model = shared.set_adapter(path)
    assert model.adapter is not None
    assert (model.adapter.name, model.default_condition) == ("mine", "Expert")
    with_it = replace(REQUEST, adapter=AdapterChoice(path))
    assert reply(shared, REQUEST)[0] == reply(world.engine, with_it)[0]
    assert reply(shared, REQUEST)[1].adapter == "mine"
    assert shared.set_adapter(None).adapter is None
    assert reply(shared, REQUEST)[1].adapter is None


def test_a_reply_is_cancelled_and_an_adapter_that_is_not_there_is_told(
    world: World, shared: SharedEngine, tmp_path: Path
) -> None:
    long = replace(REQUEST, sampling=Sampling(temperature=0), update_interval=0.0)
    events = shared.generate(long)
    while not isinstance(next(events), TextDelta):
        pass
    shared.cancel(long)
    last = [*events][-1]
    assert isinstance(last, Finished)
    assert last.reason == "cancelled"
    until(lambda: world.serving.places.taken == 0)
    for name in ("elsewhere.gguf", "mine.gguf"):  # the server's `mine` is another file
        elsewhere = tmp_path / name
        elsewhere.write_bytes(world.library.resolve("mine").read_bytes())
        with pytest.raises(EngineError, match="no adapter of the server"):
            reply(shared, replace(REQUEST, adapter=AdapterChoice(elsewhere)))
        with pytest.raises(EngineError, match="no adapter of the server"):
            shared.set_adapter(elsewhere)
    assert shared.load().adapter is None


def test_an_adapter_is_never_less_or_more_than_was_asked_for(
    world: World, shared: SharedEngine
) -> None:
    half = AdapterChoice(world.library.resolve("mine"), 0.5)
    with pytest.raises(EngineError, match=r"effect of mine by 1, not by 0\.5"):
        reply(shared, replace(REQUEST, adapter=half))
    with pytest.raises(EngineError, match=r"effect of mine by 1, not by 0\.5"):
        list(shared.score([ScoreRequest(ASKED, "Hi", adapter=half)]))


def test_texts_are_scored_as_the_engine_scores_them(world: World, shared: SharedEngine) -> None:
    requests = [
        ScoreRequest(ASKED, text, adapter=AdapterChoice(path))
        for path in (None, world.library.resolve("mine"))
        for text in ("I am a model.", "你好")
    ]
    ours, theirs = (
        sorted(engine.score(requests), key=lambda score: score.index)
        for engine in (shared, world.engine)
    )
    assert [score.ids for score in ours] == [score.ids for score in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.log_probability == pytest.approx(other.log_probability, abs=0.01)
    assert ours[0].log_probability != pytest.approx(ours[2].log_probability, abs=0.01)


def test_the_server_is_asked_to_keep_no_state_of_its_chats(shared: SharedEngine) -> None:
    engine, asked = shared._for(REQUEST)
    place = engine.load().remote
    assert place is not None
    assert chat_body(asked, ASKED, "m", place)["cache_prompt"] is False
