"""What a reply thought, apart from what it says, as OpenAI's clients find it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import openai
import pytest

from openchat_local.app.server.starting import Wishes, serving_of
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, Sampling
from openchat_local.models.library.adapters import AdapterLibrary
from support.scripted import SWITCHES, write_scripted
from support.serving import Client, running

PIECES = ["<think>", "\nThe", " user", " asks", ".\n", "</think>", "\n\nFour", " it", " is"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("thinker")
    path = write_scripted(folder / "thinker.gguf", PIECES, SWITCHES, otherwise=["Four!"])
    with closing(LocalEngine(EngineOptions(path, context=1024, threads=1))) as engine:
        wishes = Wishes(Sampling(max_tokens=64))
        serving = serving_of(engine, AdapterLibrary(folder / "adapters"), wishes)
        with running(serving) as client:
            yield client
        serving.bridge.close()


def test_thoughts_are_in_a_field_of_their_own_and_counted(client: Client) -> None:
    answer = client.chat(max_tokens=32).json
    said = {"role": "assistant", "content": "Four it is", "refusal": None}
    assert answer["choices"][0]["message"] == said | {"reasoning_content": "The user asks."}
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 6}
    cut = client.chat(max_tokens=3).json["choices"][0]
    assert (cut["finish_reason"], cut["message"]["content"]) == ("length", "")
    assert cut["message"]["reasoning_content"] == "The user"


def test_whoever_asks_is_told_whether_it_can_be_asked_without(client: Client) -> None:
    props = client.get("/props").json
    assert (props["thinks"], props["thinking_switch"]) == (True, True)


def test_a_stream_has_them_in_deltas_of_their_own(client: Client) -> None:
    api = openai.OpenAI(base_url=f"{client.url}/v1", api_key="none", max_retries=0)
    stream = api.chat.completions.create(
        model="thinker", messages=[{"role": "user", "content": "2+2?"}], temperature=0,
        stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    *chunks, last = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    thoughts = [getattr(delta, "reasoning_content", None) or "" for delta in deltas]
    assert "".join(thoughts) == "The user asks."
    assert "".join(delta.content or "" for delta in deltas) == "Four it is"
    assert last.usage is not None
    assert last.usage.completion_tokens_details is not None
    assert last.usage.completion_tokens_details.reasoning_tokens == 6


@pytest.mark.parametrize(
    "how",
    [{"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}],
    ids=["kwargs", "effort"],
)
def test_a_reply_without_thoughts_can_be_asked_for(client: Client, how: dict[str, object]) -> None:
    answer = client.chat(**how)
    assert "X-Ignored-Parameters" not in answer.headers
    assert answer.json["choices"][0]["message"]["content"] == "Four!"
    assert answer.json["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}


def test_other_switches_are_refused(client: Client) -> None:
    answer = client.chat(chat_template_kwargs={"enable_thinking": "no"})
    assert answer.status == 400
    assert answer.error["param"] == "chat_template_kwargs.enable_thinking"


def test_likelihoods_are_those_of_what_it_says(client: Client) -> None:
    choice = client.chat(max_tokens=32, logprobs=True).json["choices"][0]
    told = "".join(one["token"] for one in choice["logprobs"]["content"])
    assert told.strip() == choice["message"]["content"]


def test_thoughts_of_earlier_replies_go_through_the_template(client: Client) -> None:
    def tokens(**more: str) -> int:
        turns = [
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "Four", **more},
            {"role": "user", "content": "+1?"},
        ]
        return int(client.post("/tokenize", {"messages": turns}).json["count"])

    assert tokens(reasoning_content="A sum.") == tokens()  # which leaves them out
