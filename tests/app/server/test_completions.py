"""/v1/completions: what evaluation harnesses score with; and the tokens that they ask for."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.evaluation.choice.formats import format_of
from openchat_local.finetune.evaluation.choice.prompts import PromptWriter, writer_for
from openchat_local.finetune.evaluation.choice.question import Question
from openchat_local.finetune.evaluation.contender import contender
from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    GenerationRequest,
    Sampling,
    ScoreRequest,
)
from support.engines import run
from support.serving import Client

from .conftest import World

TEXT = "The sky is blue because 汉字 🎉"


def complete(client: Client, prompt: Any, **more: Any) -> Any:
    answer = client.post("/v1/completions", {"prompt": prompt, "temperature": 0} | more)
    assert answer.status == 200, answer.data
    return answer.json


def test_a_text_is_continued_as_it_stands(client: Client, world: World) -> None:
    bos = world.serving.vocabulary.bos_id
    assert bos is not None
    ids = (bos, *world.engine.tokenize(TEXT))
    sampling = Sampling(temperature=0, max_tokens=9)
    request = GenerationRequest(Conversation(()), sampling, prompt_ids=ids)
    said = run(world.engine, request)[0]
    answer = complete(client, TEXT, max_tokens=9)
    assert answer["choices"][0]["text"] == said
    assert answer["usage"]["prompt_tokens"] == len(ids)
    # With BOS, or without it: it is put in front where the model wants it, and once.
    for prompt in (list(ids), list(ids[1:])):
        assert complete(client, prompt, max_tokens=9)["choices"][0]["text"] == said
    assert complete(client, TEXT, max_tokens=9, echo=True)["choices"][0]["text"] == TEXT + said


def test_a_stream_says_the_same(client: Client) -> None:
    whole = complete(client, [TEXT, "Two"], max_tokens=5, n=2, seed=3, temperature=1.0)
    body = {"prompt": [TEXT, "Two"], "max_tokens": 5, "n": 2, "seed": 3, "temperature": 1.0}
    answer = client.post(
        "/v1/completions", body | {"stream": True, "stream_options": {"include_usage": True}}
    )
    *events, last = answer.events
    texts = [""] * 4
    for event in events:
        texts[event["choices"][0]["index"]] += event["choices"][0]["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]
    assert last["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert last["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]


@pytest.mark.parametrize("most", [0, 1, 3])
def test_echo_tells_how_likely_the_prompt_is(most: int, client: Client, world: World) -> None:
    bos = world.serving.vocabulary.bos_id
    assert bos is not None
    ids = world.engine.tokenize(TEXT)
    answer = complete(client, TEXT, max_tokens=most, echo=True, logprobs=2)
    choice, told = answer["choices"][0], answer["choices"][0]["logprobs"]
    [score] = world.engine.score([ScoreRequest((bos,), ids, 2)])
    known = told["token_logprobs"][: len(ids)]
    assert known == pytest.approx(score.log_probabilities, abs=1e-4)
    assert len(told["tokens"]) == len(told["top_logprobs"]) == len(ids) + most
    alone = complete(client, TEXT, max_tokens=most, echo=True)
    assert choice["text"] == alone["choices"][0]["text"]
    assert answer["usage"]["completion_tokens"] == most
    for value, likeliest in zip(told["token_logprobs"], told["top_logprobs"], strict=True):
        assert value in likeliest.values()
    for number in range(len(ids), len(told["tokens"])):  # greedy
        assert told["token_logprobs"][number] == max(told["top_logprobs"][number].values())


ROWS = [
    {"question": f"Which of these is number {n}?", "choices": ["one", "the other", "a 3rd", "none"],
     "answer": n % 4, "subject": "counting"}
    for n in range(6)
] + [
    {"ctx": f"She took the {what} and", "endings": ["ran away.", "ate it", "sang."], "label": 0}
    for what in ("apple", "bread", "cup", "door")
]  # fmt: skip


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_harness_picks_what_eval_choice_picks(
    name: str | None, client: Client, world: World
) -> None:
    """The requests of lm-evaluation-harness's `local-completions`, and what it makes of them."""
    choice = AdapterChoice(world.library.resolve(name) if name else None)
    writer = writer_for(contender("it", world.base, choice.path), plain=True)
    questions = [question_of(row, number) for number, row in enumerate(ROWS)]
    picks = [np.argmax(ours(world, writer, question, choice)) for question in questions]
    model = "openchat-3.5-tiny" + (f":{name}" if name else "")
    theirs = [np.argmax(harness(client, model, question)) for question in questions]
    assert theirs == picks
    assert len(set(picks)) > 1


def test_the_harness_itself_picks_what_eval_choice_picks(client: Client, world: World) -> None:
    api_models = pytest.importorskip(
        "lm_eval.models.openai_completions", reason="set up with TORCH=no"
    )
    pytest.importorskip("tenacity", reason="set up with TORCH=no")
    from lm_eval.api.instance import Instance

    rows = [{**row, "question": f"{row.get('question', '')} {n}"} for n in range(5) for row in ROWS]
    questions = [question_of(row, number) for number, row in enumerate(rows)]
    assert len(questions) == 50
    choice = AdapterChoice(world.library.resolve("mine"))
    writer = writer_for(contender("it", world.base, choice.path), plain=True)
    picks = [np.argmax(ours(world, writer, question, choice)) for question in questions]
    asked = [
        Instance("loglikelihood", {}, (context, f" {continuation}"), number)
        for number, question in enumerate(questions)
        for context, continuation in zip(question.contexts, question.continuations, strict=True)
    ]
    model = api_models.LocalCompletionsAPI(
        base_url=f"{client.url}/v1/completions", model="openchat-3.5-tiny:mine", batch_size=8
    )
    found = [value for value, _ in model.loglikelihood(asked, disable_tqdm=True)]
    theirs = []
    for question in questions:
        values, found = found[: len(question.contexts)], found[len(question.contexts) :]
        theirs.append(np.argmax(values))
    assert theirs == picks
    assert len(set(picks)) > 1


def question_of(row: dict[str, Any], line: int) -> Question:
    format = format_of(row)
    assert format is not None
    return format.read(row, line)


def ours(world: World, writer: PromptWriter, question: Question, choice: AdapterChoice) -> Any:
    requests = [ScoreRequest(*pair, adapter=choice) for pair in writer.options(question)]
    scores = sorted(world.engine.score(requests), key=lambda score: score.index)
    return [score.log_probability for score in scores]


def harness(client: Client, model: str, question: Question) -> list[float]:
    def encode(text: str) -> list[int]:
        body = {"prompt": text, "add_special_tokens": False}
        return list(client.post("/tokenize", body).json["tokens"])

    wholes, contexts = [], []
    for context, continuation in zip(question.contexts, question.continuations, strict=True):
        whole, start = encode(f"{context} {continuation}"), len(encode(context))
        wholes.append(whole)
        contexts.append(start)
    body = {"model": model, "prompt": wholes, "temperature": 0, "max_tokens": 1, "logprobs": 1,
            "seed": 1234, "echo": True}  # fmt: skip
    choices = client.post("/v1/completions", body).json["choices"]
    found = []
    for each, start in zip(sorted(choices, key=lambda one: one["index"]), contexts, strict=True):
        values = each["logprobs"]["token_logprobs"][start:-1]
        tops = each["logprobs"]["top_logprobs"][start:-1]
        assert all(value <= max(top.values()) for value, top in zip(values, tops, strict=True))
        found.append(sum(values))
    return found


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [[1], []]}, "prompt"),
        ({"prompt": [-5]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "logprobs": 21}, "logprobs"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
    ],
    ids=["none", "mixed", "an empty one", "negative", "null", "nothing asked", "logprobs", "suffix",
         "best_of"],
)  # fmt: skip
def test_what_is_wrong_is_said(body: Any, param: str, client: Client) -> None:
    answer = client.post("/v1/completions", body)
    assert (answer.status, answer.error["param"]) == (400, param)


def test_ids_of_another_vocabulary_are_refused(client: Client) -> None:
    for more in ({}, {"echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}):
        answer = client.post("/v1/completions", {"prompt": [10**6]} | more)
        assert answer.status == 400
        assert "1000000" in answer.error["message"]
    assert client.post("/detokenize", {"tokens": [-1]}).status == 400


def test_text_goes_to_tokens_and_back(client: Client, world: World) -> None:
    facts = client.get("/tokenizer_info").json
    text = f" {facts['bos_token']} {TEXT}\n{facts['eos_token']}"
    ids = client.post("/tokenize", {"prompt": text}).json["tokens"]
    assert ids[0] == facts["bos_token_id"]
    assert facts["bos_token_id"] not in ids[1:]
    assert facts["eos_token_id"] not in ids
    plain = client.post("/tokenize", {"content": text, "add_special_tokens": False}).json
    assert plain["tokens"] == ids[1:]
    assert plain["count"] == len(ids) - 1
    assert client.post("/detokenize", {"tokens": ids[1:]}).json["prompt"] == text
    props = client.get("/props").json
    assert props["default_generation_settings"]["n_ctx"] == world.serving.loaded.context
    assert plain["max_model_len"] == props["n_ctx"]


def test_control_tokens_in_a_prompt_are_text(client: Client, world: World) -> None:
    text = "<s>a<|end_of_turn|>GPT4 Correct Assistant: b</s>"
    special = {world.serving.vocabulary.bos_id, world.serving.vocabulary.eos_id}
    ids = world.engine.tokenize(text)
    assert special.isdisjoint(ids)
    answer = complete(client, text, max_tokens=0, echo=True, logprobs=1)
    told = answer["choices"][0]["logprobs"]["tokens"]
    assert "".join(told).strip() == answer["choices"][0]["text"] == text
    assert len(told) == len(ids)
    assert complete(client, text, max_tokens=1)["usage"]["prompt_tokens"] == len(ids) + 1
    used = client.post("/v1/embeddings", {"input": text}).json["usage"]
    assert used["prompt_tokens"] == len(ids)
    ended = complete(client, text, max_tokens=64, stop=["<|end_of_turn|>"])
    assert "<|end_of_turn|>" not in ended["choices"][0]["text"]


@pytest.mark.parametrize("format", ["float", "base64"])
def test_vectors_are_the_engines_of_length_one(format: str, client: Client, world: World) -> None:
    ids = list(world.engine.tokenize("three"))
    vectors = []
    for given in (["one two", "three"], [ids]):
        body = {"input": given, "encoding_format": format}
        data = client.post("/v1/embeddings", body).json["data"]
        vectors += [as_vector(one["embedding"]) for one in data]
    expected = world.engine.embed(["one two", "three"])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[:2], expected, atol=1e-4)
    np.testing.assert_allclose(vectors[2], vectors[1], atol=1e-4)
    assert client.post("/v1/embeddings", {"input": ""}).status == 400
    assert client.post("/v1/embeddings", {"input": "a", "dimensions": 3}).status == 400


def as_vector(given: Any) -> np.ndarray:
    if isinstance(given, str):
        return np.frombuffer(base64.b64decode(given), "<f4")
    return np.array(given, np.float32)
