"""Whatever is sent is answered, or refused with a sentence: never with a bug."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openchat_local.app.server.docs import description
from support.serving import Client

from .conftest import World

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False), st.text(max_size=8),
)  # fmt: skip
ANY = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
TEXT = st.text(max_size=20)
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "developer"]), "content": TEXT}
)
ASKED = st.fixed_dictionaries({"role": st.just("user"), "content": TEXT})
IDS = st.lists(st.integers(0, 32_001), min_size=1, max_size=4)
SCHEMA = {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": False}
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "messages": st.builds(lambda turns, asked: [*turns, asked], st.lists(TURN, max_size=3), ASKED),
    "prompt": st.one_of(TEXT, IDS, st.lists(TEXT, min_size=1, max_size=2)),
    "content": TEXT,
    "input": st.one_of(st.text(min_size=1, max_size=20), IDS),
    "tokens": IDS,
    "model": st.sampled_from(["openchat-3.5-tiny", "openchat-3.5-tiny:mine"]),
    "max_tokens": st.integers(1, 3),
    "max_completion_tokens": st.integers(1, 3),
    "n": st.integers(1, 2),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "min_p": st.floats(0, 1),
    "top_k": st.integers(0, 100),
    "repeat_penalty": st.floats(0.5, 2),
    "repetition_penalty": st.floats(0.5, 2),
    "seed": st.integers(-(2**63), 2**63),
    "stop": st.one_of(TEXT, st.lists(TEXT, max_size=3)),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
    "response_format": st.sampled_from(
        [{"type": "text"}, {"type": "json_schema", "json_schema": {"schema": SCHEMA}}]
    ),
    "echo": st.booleans(),
    "add_special_tokens": st.booleans(),
    "condition": st.sampled_from(["", "Math Correct", "<|end_of_turn|>"]),
    "encoding_format": st.sampled_from(["float", "base64"]),
    "pooling": st.sampled_from(["mean", "last"]),
    "dimensions": st.none(),
    "user": TEXT,
    "tools": st.lists(
        st.builds(
            lambda name: {"type": "function", "function": {"name": name}},
            st.text("abc", min_size=1, max_size=3),
        ),
        max_size=2,
    ),
    "tool_choice": st.sampled_from(["none", "auto"]),
    "parallel_tool_calls": st.booleans(),
    "cache_prompt": st.booleans(),
    "chat_template_kwargs": st.fixed_dictionaries({"enable_thinking": st.booleans()}),
    "reasoning_effort": st.sampled_from(["none", "low"]),
    "logit_bias": st.dictionaries(
        st.integers(0, 32_001).map(str), st.floats(-100, 100), max_size=3
    ),
}


def good(name: str, path: str) -> st.SearchStrategy[Any]:
    """What a parameter may be."""
    if name in ("logprobs", "top_logprobs"):
        return st.integers(0, 3) if name != "logprobs" or "chat" not in path else st.booleans()
    if name == "prompt" and path == "/tokenize":
        return TEXT
    return GOOD[name]


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A path and some of its parameters, as they should be; and sometimes one that is not."""
    api = description()
    paths = {path: at["post"] for path, at in api["paths"].items() if "post" in at}
    path = draw(st.sampled_from(sorted(paths)))
    ref = paths[path]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = api["components"]["schemas"][ref.rpartition("/")[2]]
    optional = sorted(set(schema["properties"]) - set(schema.get("required", [])))
    names = {*schema.get("required", []), *draw(st.lists(st.sampled_from(optional), max_size=4))}
    body = {name: draw(good(name, path)) for name in sorted(names)}
    if draw(st.sampled_from([False, False, True])):
        body[draw(st.sampled_from([*sorted(names), "tools", "x"]))] = draw(ANY)
    if not {"max_tokens", "max_completion_tokens"} & body.keys():
        body["max_tokens"] = 2
    return path, body


@given(asked=requests())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_is_answered_or_refused(
    asked: tuple[str, dict[str, Any]], client: Client, world: World
) -> None:
    path, body = asked
    answer = client.post(path, json.dumps(body).encode())
    assert answer.status in (200, 400, 404), (answer.status, answer.data)
    if answer.status != 200:
        assert answer.error["message"].endswith((".", "?", ")", "'", '"')), answer.error
    assert world.bugs == []
    assert world.serving.places.taken == 0
