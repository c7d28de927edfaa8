"""A remote engine over a server that knows OpenAI's API and nothing else."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.capabilities import Ability
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    GenerationRequest,
    PromptFitted,
    ScoreRequest,
)
from openchat_local.models.errors import (
    ContextOverflow,
    EngineError,
    ModelLoadError,
)
from openchat_local.models.system.network import OfflineError
from support.engines import asking, run
from support.openai_like import Bare, Exchange, error
from support.other_program import remote_engine, said_by

HELLO = Message("user", "Hello?")
KEY = "sk-this-is-secret"


# What is asked, and what comes back


def test_a_reply_streams_with_the_servers_counts(bare: Bare) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 4}}
    usage = {"prompt_tokens": 7, "completion_tokens": 2, **details}
    bare.replies(lambda exchange: exchange.says("Hello", " you.", usage=usage))
    text, finished = said_by(bare, asking("Hello?", system="Be kind."))
    assert text == "Hello you."
    assert finished.reason == "stop"
    counts = finished.usage
    assert (counts.prompt_tokens, counts.reused_tokens, counts.generated_tokens) == (7, 4, 2)
    body = bare.chats[0].body
    assert body["model"] == "gpt"
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello?"},
    ]
    assert body["max_tokens"] == 24
    assert not {"top_k", "min_p", "repeat_penalty", "condition", "seed"} & body.keys()


def test_it_is_told_what_the_server_cannot(bare: Bare) -> None:
    with closing(remote_engine(bare.url, label="mine")) as engine:
        model = engine.load()
    assert model.name == "gpt@mine"
    assert model.context == 0
    assert model.remote is not None
    assert not model.remote.leaves
    assert bare.url in model.notes[0]
    assert "top-k" in model.notes[1]
    for ability in get_args(Ability):
        reason = model.remote.why_not(ability)
        assert reason is not None
        assert reason.endswith(".")
    assert model.remote.misses("top_k") is not None
    assert model.remote.misses("temperature") is None


def test_nothing_of_this_machine_is_told_beside_the_prompt(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "of-somebody-else")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: of-somebody-else")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    said_by(bare)
    for asked in bare.asked:
        names = {name.lower() for name in asked.headers}
        assert names <= {
            "host", "accept", "accept-encoding", "connection", "user-agent", "content-type",
            "content-length",
        }  # fmt: skip
        assert "of-somebody-else" not in str(asked)


def test_the_key_goes_to_the_server_and_nowhere_else(
    bare: Bare, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    bare.replies(lambda exchange: exchange.json({"error": {"message": f"{KEY} is used up"}}, 429))
    engine = remote_engine(bare.url, key_name="MY_KEY")
    with pytest.raises(EngineError) as refused, closing(engine):
        run(engine, asking("Hello?"))
    assert bare.chats[0].headers["Authorization"] == f"Bearer {KEY}"
    told = "".join(traceback.format_exception(refused.value))
    shown = f"{told} {engine.options!r} {capfd.readouterr()}"
    assert "is used up" in shown
    assert KEY not in shown


@pytest.mark.parametrize("name", ["sk-proj-1234", "gsk1234abcd", "two words", ""])
def test_a_key_in_place_of_its_name_is_not_repeated(bare: Bare, name: str) -> None:
    with pytest.raises(EngineError, match="belongs in an environment variable") as refused:
        remote_engine(bare.url, key_name=name).load()
    assert not name or name not in str(refused.value)
    assert bare.asked == []


@pytest.mark.parametrize("value", [None, "", "two words", "sk-\x01"])
def test_a_key_that_is_none_is_told_by_its_name(
    bare: Bare, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(EngineError, match="MY_KEY") as refused:
        remote_engine(bare.url, key_name="MY_KEY").load()
    assert value is None or not value or value not in str(refused.value)
    assert bare.asked == []


def test_thoughts_that_are_told_apart_stand_at_the_head_of_the_reply(bare: Bare) -> None:
    def thinks(exchange: Exchange) -> None:
        exchange.begin_stream()
        exchange.delta(reasoning_content="Let me ")
        exchange.delta(reasoning_content="see.")
        exchange.delta(content="Four.")
        exchange.delta("stop")
        exchange.end_stream()

    bare.replies(thinks)
    text, finished = said_by(bare)
    assert text == "<think>\nLet me see.\n</think>\n\nFour."
    assert finished.usage.reasoning_seconds > 0
    said_by(bare, asking("Two and two?", text, "And one more?"))  # for whom they are nothing
    assert [turn["content"] for turn in bare.chats[-1].body["messages"]][1] == "Four."


def test_characters_that_are_cut_in_two_come_whole(bare: Bare) -> None:
    bare.replies(lambda exchange: exchange.says("a \ud83d", "\ude00 b", "\ude00"))
    assert said_by(bare)[0] == "a 😀 b\N{REPLACEMENT CHARACTER}"


def test_a_server_that_does_not_stream_is_understood_too(bare: Bare) -> None:
    whole = {"choices": [{"message": {"content": "All at once."}, "finish_reason": "length"}]}
    bare.replies(lambda exchange: exchange.json(whole))
    text, finished = said_by(bare)
    assert (text, finished.reason) == ("All at once.", "length")


def test_what_a_filter_ended_is_said(bare: Bare) -> None:
    def filtered(exchange: Exchange) -> None:
        exchange.begin_stream()
        exchange.delta("content_filter", content="No")
        exchange.end_stream()

    bare.replies(filtered)
    assert "filter" in (said_by(bare)[1].note or "")


def test_a_schema_is_asked_for_and_a_reply_that_is_no_json_is_not_complete(bare: Bare) -> None:
    schema = {"type": "object"}
    finished = said_by(bare, asking("Hello?", json_schema=schema))[1]
    assert not finished.complete
    assert bare.chats[0].body["response_format"]["json_schema"]["schema"] == schema


def picky(name: str) -> Callable[[Exchange], None]:
    """A server that takes no parameter of this name."""

    def answer(exchange: Exchange) -> None:
        if name in exchange.asked.body:
            fault = {"message": f"Unsupported parameter: '{name}'", "param": name}
            exchange.json({"error": fault}, 400)
        else:
            exchange.says("Now.")

    return answer


@pytest.mark.parametrize(
    ("old", "new"),
    [("max_tokens", "max_completion_tokens"), ("stream_options", None), ("top_p", None)],
)
def test_a_name_that_a_server_does_not_take_is_put_otherwise(
    bare: Bare, old: str, new: str | None
) -> None:
    bare.replies(picky(old))
    with closing(remote_engine(bare.url)) as engine:
        text, finished = run(engine, asking("Hello?"))
        assert (text, len(bare.chats)) == ("Now.", 2)
        assert new is None or bare.chats[-1].body[new] == 24
        assert ("top-p of its own" in (finished.note or "")) == (old == "top_p")
        assert run(engine, asking("Hello?"))[1].note is None
        assert len(bare.chats) == 3  # it is known by then


def test_what_was_asked_for_in_so_many_words_is_not_left_out(bare: Bare) -> None:
    bare.replies(picky("temperature"))
    with pytest.raises(EngineError, match="Unsupported parameter: 'temperature'"):
        said_by(bare, asking("Hello?", temperature=0.3))
    assert len(bare.chats) == 1


def test_a_limit_that_is_too_high_is_told_as_the_server_says_it(bare: Bare) -> None:
    bare.replies(error(400, "max_tokens is too large: at most 4096"))
    with pytest.raises(EngineError, match="max_tokens is too large"):
        said_by(bare)


def test_a_schema_that_can_only_be_recommended_says_so(bare: Bare) -> None:
    def answer(exchange: Exchange) -> None:
        if exchange.asked.body["response_format"]["json_schema"]["strict"]:
            exchange.json({"error": {"message": "Invalid schema for response_format"}}, 400)
        else:
            exchange.says("{}")

    bare.replies(answer)
    finished = said_by(bare, asking("Hello?", json_schema={"type": "object"}))[1]
    assert finished.complete
    assert "only recommended" in (finished.note or "")


def test_of_a_chat_that_is_too_long_the_oldest_turns_go(bare: Bare) -> None:
    def answer(exchange: Exchange) -> None:
        if len(exchange.asked.body["messages"]) > 4:
            error = {"message": "too long", "code": "context_length_exceeded"}
            exchange.json({"error": error}, 400)
        else:
            exchange.says("Fine.")

    bare.replies(answer)
    turns = [word for number in range(4) for word in (f"Question {number}", f"Answer {number}")]
    request = asking(*turns, "Last question", system="Be kind.")
    with closing(remote_engine(bare.url)) as engine:
        with pytest.raises(ContextOverflow):
            run(engine, request)
        dropping = GenerationRequest(request.conversation, request.sampling, overflow="drop-oldest")
        events = list(engine.generate(dropping))
    fitted = [event for event in events if isinstance(event, PromptFitted)][-1]
    sent = [one["content"] for one in bare.chats[-1].body["messages"]]
    system, *kept = [turn.content for turn in request.conversation.messages]
    assert sent == [system, *kept[fitted.left_out :]]
    assert len(sent) == 4


# What is refused before anything is sent


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (GenerationRequest(Conversation((HELLO,), "Math Correct")), "condition"),
        (GenerationRequest(Conversation((HELLO,)), adapter=AdapterChoice(Path("a"))), "adapter"),
        (GenerationRequest(asking("Hello?", "Hel").conversation, continues=True), "continue"),
        (GenerationRequest(Conversation(()), prompt_ids=(1, 2)), "token ids"),
    ],
    ids=["condition", "adapter", "continuing", "ids"],
)  # fmt: skip
def test_what_it_cannot_do_is_refused_and_nothing_sent(
    bare: Bare, request_: GenerationRequest, reason: str
) -> None:
    with pytest.raises(EngineError, match=reason):
        said_by(bare, request_)
    assert bare.chats == []


def test_other_questions_are_refused_with_the_reason(bare: Bare) -> None:
    conversation = asking("Hello?").conversation
    with closing(remote_engine(bare.url)) as engine:
        for question in (
            lambda: engine.count_tokens(conversation),
            lambda: engine.render(conversation),
            engine.vocabulary,
            lambda: engine.pieces([1]),
            lambda: engine.tokenize("a"),
            lambda: engine.embed(["a"]),
            lambda: list(engine.score([ScoreRequest(conversation, "Yes")])),
            lambda: engine.set_adapter(Path("/adapters/mine/adapter.gguf")),
        ):
            with pytest.raises(EngineError, match=r"127\.0\.0\.1"):
                question()
        assert engine.fit(GenerationRequest(conversation)) == PromptFitted(0, 0)
    assert bare.chats == []


@pytest.mark.parametrize(
    ("models", "wanted", "said"),
    [
        (("gpt", "gpt-mini"), "", "name one with -m, such as gpt, gpt-mini"),
        ((), "", "name one with -m"),
    ],
)
def test_a_model_that_is_not_clear_is_asked_for(
    bare: Bare, models: tuple[str, ...], wanted: str, said: str
) -> None:
    bare.lists(*({"id": name} for name in models))
    with pytest.raises(EngineError, match=said):
        remote_engine(bare.url, wanted).load()


def test_a_model_that_is_not_there_is_told_with_those_that_are(bare: Bare) -> None:
    bare.lists(*({"id": f"gpt-{number}", "owned_by": "vllm"} for number in range(20)))
    with pytest.raises(ModelLoadError, match="no model 'gtp-1': it has gpt-1"):
        remote_engine(bare.url, "gtp-1").load()


def test_the_network_is_refused_offline_but_not_this_machine(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENCHAT_LOCAL_OFFLINE", "1")
    assert said_by(bare)[0] == "Hello there."
    with pytest.raises(OfflineError):
        remote_engine("https://api.example.com/v1").load()
