"""Servers that are told by their answers, each asked in its own words."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest

from openchat_local.models.engine.capabilities import (
    SAMPLING_NAMES,
    Capabilities,
    RemotePlace,
)
from openchat_local.models.engine.protocol import (
    GenerationRequest,
    Sampling,
    ScoreRequest,
    TextDelta,
)
from openchat_local.models.engine.remote.engine import RemoteEngine
from openchat_local.models.engine.remote.requests import chat_body
from support.engines import asking, run
from support.openai_like import Bare, Exchange
from support.other_program import remote_engine

WORDS = {name: 100 + number for number, name in enumerate(["system", "user", "assistant"])}


def ids_of(messages: list[dict[str, str]]) -> list[int]:
    """A token for each turn and one for each word."""
    return [
        id for one in messages for id in (WORDS[one["role"]], *range(len(one["content"].split())))
    ]


@pytest.fixture
def vllm(bare: Bare) -> Bare:
    """What vLLM answers."""

    def tokenize(exchange: Exchange) -> None:
        body = exchange.asked.body
        text = body.get("messages") or [{"role": "user", "content": body["prompt"]}]
        exchange.json({"tokens": ids_of(text), "max_model_len": 512})

    def scored(exchange: Exchange) -> None:
        choices = []
        for ids in exchange.asked.body["prompt"]:
            values: list[float | None] = [None, *(-0.5 for _ in ids[1:]), -9.0]
            top = [None, *({"a": -0.5, "b": -1.5} for _ in ids[1:]), {"a": -9.0}]
            choices.append(
                {"text": "", "logprobs": {"token_logprobs": values, "top_logprobs": top}}
            )
        exchange.json({"choices": choices})

    bare.lists({"id": "org/big", "owned_by": "vllm", "max_model_len": 512})
    bare.answers |= {"/tokenize": tokenize, "/v1/completions": scored}
    return bare


@pytest.fixture
def llama_server(bare: Bare) -> Bare:
    """What llama-server answers."""

    def template(exchange: Exchange) -> None:
        exchange.json({"prompt": json.dumps(exchange.asked.body["messages"])})

    def tokenize(exchange: Exchange) -> None:
        text = exchange.asked.body["content"]
        messages = json.loads(text) if text.startswith("[") else []
        exchange.json({"tokens": ids_of(messages)})

    props = {"default_generation_settings": {"n_ctx": 256}, "total_slots": 4}
    bare.lists({"id": "small.gguf", "owned_by": "llamacpp", "meta": {"n_ctx_train": 4096}})
    bare.answers |= {
        "/props": lambda exchange: exchange.json(props),
        "/apply-template": template,
        "/tokenize": tokenize,
    }
    return bare


def asked_with(engine: RemoteEngine, bare: Bare, request: GenerationRequest) -> Any:
    run(engine, request)
    return bare.chats[-1].body


def test_vllm_is_asked_as_it_wants(vllm: Bare) -> None:
    sampling = Sampling(top_k=5, repeat_penalty=1.2, max_tokens=4, thinking=False, seed=7)
    with closing(remote_engine(vllm.url)) as engine:
        model = engine.load()
        assert (model.context, model.remote and model.remote.can.kind) == (512, "vllm")
        conversation = asking("One two three").conversation
        assert engine.count_tokens(conversation) == 4
        body = asked_with(engine, vllm, GenerationRequest(conversation, sampling))
        assert (body["top_k"], body["repetition_penalty"], body["seed"]) == (5, 1.2, 7)
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
        begun = GenerationRequest(asking("One", "Two").conversation, continues=True)
        body = asked_with(engine, vllm, begun)
        assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
        (score,) = engine.score([ScoreRequest(conversation, "four five")])
    assert score.log_probabilities == (-0.5, -0.5, -0.5)
    assert score.greedy == (True, True, True)


def test_llama_server_is_asked_as_it_wants(llama_server: Bare) -> None:
    with closing(remote_engine(llama_server.url)) as engine:
        model = engine.load()
        assert (model.context, model.context_trained, model.sequences) == (256, 4096, 4)
        assert model.remote is not None
        assert model.remote.can.sampling == set(SAMPLING_NAMES)
        assert model.remote.why_not("scoring") is not None
        assert engine.count_tokens(asking("One two three").conversation) == 4
        assert asked_with(engine, llama_server, asking("One"))["repeat_penalty"] == 1.0


def test_a_chat_is_shortened_by_the_servers_own_count(llama_server: Bare) -> None:
    turns = [f"{number} {'word ' * 40}" for number in range(20)]
    request = asking(*turns, "Last")
    with closing(remote_engine(llama_server.url)) as engine:
        dropping = GenerationRequest(request.conversation, request.sampling, overflow="drop-oldest")
        events = list(engine.generate(dropping))
    sent = llama_server.chats[0].body["messages"]
    assert len(ids_of(sent)) < 256
    assert sent[-1]["content"] == "Last"
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Hello there."


def test_openai_itself_is_asked_for_completion_tokens() -> None:
    url = "https://api.openai.com/v1"
    place = RemotePlace("openai", url, "api.openai.com", leaves=True, can=Capabilities("openai"))
    request = asking("Hello?")
    body = chat_body(request, request.conversation, "gpt-4o", place)
    assert body["max_completion_tokens"] == 24
    assert not {"max_tokens", *SAMPLING_NAMES} & body.keys()
