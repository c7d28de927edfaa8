"""A JSON schema holds a reply, whatever the model would rather say.

Most models here have random weights: they want nothing in particular, and so push hardest.
`jsonschema` is the judge.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator as Validator
from jsonschema.validators import validator_for

from openchat_local.models.engine.decoding.llamacpp import Model
from openchat_local.models.engine.protocol import Finished
from openchat_local.models.errors import EngineError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import choose_template
from support.engines import asking
from support.in_process import InProcess
from support.openchat_gguf import openchat_vocabulary, starter_vocabulary, write_model

Reply = Callable[..., tuple[str, Finished]]

SHORT = {"type": "string", "maxLength": 5}
OBEYED: list[Any] = [
    {"type": "integer", "minimum": 1, "maximum": 5},
    {"type": "string", "minLength": 1, "maxLength": 4},
    {"type": "string", "pattern": "^[A-Z]{2}-\\d{3}$"},
    {"type": "string", "pattern": "^[^x]{1,6}$"},
    {"type": "string", "pattern": "^\\w\\s\\S$"},
    {"$defs": {"a": {"type": "object", "properties": {"x": {"type": "boolean"}},
                     "additionalProperties": False}},
     "allOf": [{"$ref": "#/$defs/a"}, {"required": ["x"]}]},
    {"anyOf": [{"type": "string"}, {"type": "boolean"}], "maxLength": 3},
    {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3},
    {"type": "number", "exclusiveMinimum": 0.5, "maximum": 0.75, "multipleOf": 0.25},
    {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 100},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "ipv4"},
    {"type": ["string", "integer"], "enum": ["a", 3, None, True]},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {
        "type": "object", "required": ["leaf"], "additionalProperties": False,
        "properties": {"leaf": {"type": "boolean"},
                       "below": {"type": "array", "maxItems": 1,
                                 "items": {"$ref": "#/$defs/tree"}}}}}},
    {"type": "object", "properties": {"a": {"type": "null"}, "b": False}, "required": ["a"],
     "additionalProperties": False},
    {"type": "array", "prefixItems": [True and SHORT, {"type": "null"}], "items": False,
     "minItems": 2},
    {"type": "object", "patternProperties": {"^k[0-9]$": {"type": "boolean"}},
     "additionalProperties": False, "maxProperties": 2},
    {"oneOf": [{"type": "boolean"}, {"type": "null"}]},
    {"const": {"a \"b\"": ["🦙 é \\ud83e \\ \n\t'", 1, {}]}},
    {"enum": ["\\d🦙", "\"\n"]},
]  # fmt: skip

REFUSED = {
    "uniqueItems": {"type": "array", "uniqueItems": True},
    "not": {"not": {"type": "string"}},
    "contains": {"contains": {"type": "integer"}},
    "if, then": {"if": {"type": "string"}, "then": {"maxLength": 3}},
    "dependentRequired": {"dependentRequired": {"a": ["b"]}},
    "propertyNames": {"propertyNames": {"maxLength": 3}},
    "unevaluatedProperties": {"unevaluatedProperties": False},
    "oneOf whose parts overlap": {"oneOf": [{"type": "string"}, {"maxLength": 3}]},
    "look-ahead": {"type": "string", "pattern": "^(?!x)"},
    "Unknown format: llama": {"type": "string", "format": "llama"},
    "minProperties": {"items": {"type": "object", "minProperties": 2}},
    "divisibleBy": {"properties": {"a": {"divisibleBy": 2}}},
    "control characters": {"enum": ["a\u0000b"]},
    "greater than maximum": {"type": "integer", "minimum": 5, "maximum": 3},
    "'http://x/y'": {"$ref": "http://x/y"},
    "/nowhere": {"$ref": "#/nowhere"},
    "no reply can obey": False,
    "Invalid type": {"type": "float"},
}


@pytest.fixture(scope="module", params=["SentencePiece", "byte-level BPE"])
def reply(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, starter_path: Any
) -> Iterator[Reply]:
    """`reply(schema, **sampling)`, of a model with random weights, in this process."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    bpe = request.param == "byte-level BPE"
    vocabulary = starter_vocabulary(starter_path) if bpe else openchat_vocabulary()
    write_model(path, vocabulary, embedding=64, heads=2, kv_heads=1, blocks=1, feed_forward=64)
    file = read_gguf(path)
    model = Model(file)
    engine = InProcess(model, choose_template(file, model.vocabulary), threads=1)

    def reply(schema: Any, **sampling: Any) -> tuple[str, Finished]:
        wanted = {"temperature": 1.5, "seed": 1, "max_tokens": 150, "top_k": 0} | sampling
        (answer,) = engine.replies([asking("Go.", json_schema=schema, **wanted)])
        return answer.text, answer.finished

    yield reply
    engine.close()
    model.close()


def problems(schema: Any, text: str) -> list[str]:
    """What is wrong with a reply, as another program sees it."""
    assert "\n" not in text
    judge = validator_for(schema, default=Validator)
    errors = judge(schema, format_checker=judge.FORMAT_CHECKER).iter_errors(json.loads(text))
    return [error.message for error in errors]


@pytest.mark.parametrize("schema", OBEYED, ids=lambda schema: json.dumps(schema)[:60])
def test_what_is_asked_for_is_obeyed(reply: Reply, schema: Any) -> None:
    complete = 0
    for seed in range(3):
        for temperature in (0.0, 2.0) if seed == 0 else (2.0,):
            text, finished = reply(schema, seed=seed, temperature=temperature)
            if finished.complete:
                complete += 1
                assert finished.reason == "stop" or text.isdigit()
                assert problems(schema, text) == [], text
    assert complete


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_enforced_is_refused_by_name(reply: Reply, name: str) -> None:
    with pytest.raises(EngineError, match="JSON schema") as refusal:
        reply(REFUSED[name])
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)


names = st.sampled_from(["a", "b", "key", "é", "two words", 'q"t'])
values = st.sampled_from(["x", "", 0, -3, 1.5, True, None, [], {"k": [1]}])
leaves = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-1000, 1000), st.integers(0, 2000),
    ),
    st.builds(
        lambda low, more: {"type": "number", "exclusiveMinimum": low, "maximum": low + 1 + more},
        st.integers(-50, 50), st.integers(0, 50),
    ),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 3), st.integers(0, 5),
    ),
    st.builds(lambda value: {"const": value}, values),
    st.builds(lambda some: {"enum": some}, st.lists(values, min_size=1, max_size=4)),
)  # fmt: skip


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def an_object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
        held = [name for name in properties if name in required]
        return {"type": "object", "properties": properties, "required": held,
                "additionalProperties": False}  # fmt: skip

    return st.one_of(
        st.builds(
            lambda item, low, more: {"type": "array", "items": item, "minItems": low,
                                     "maxItems": low + more},
            inner, st.integers(0, 2), st.integers(0, 2),
        ),
        st.builds(an_object, st.dictionaries(names, inner, max_size=3), st.lists(names)),
        st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda one: {"allOf": [one, True]}, inner),
    )  # fmt: skip


@given(schema=st.recursive(leaves, _nested, max_leaves=6), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_schemas_at_random_are_obeyed(reply: Reply, schema: Any, seed: int) -> None:
    text, finished = reply(schema, seed=seed, temperature=2.0)
    assume(finished.complete)
    assert problems(schema, text) == [], text


@pytest.mark.parametrize("draft", ["draft4", "draft6", "draft7"])
def test_a_schema_of_schemas_is_obeyed_or_refused_by_name(reply: Reply, draft: str) -> None:
    folder = files("jsonschema_specifications") / "schemas" / draft
    schema = json.loads((folder / "metaschema.json").read_text("utf-8"))
    with pytest.raises(EngineError, match=r"asks for|cannot be enforced"):
        reply(schema)


def test_a_reply_that_is_cut_is_not_complete(reply: Reply) -> None:
    schema = {"type": "array", "items": SHORT, "minItems": 50}
    text, finished = reply(schema, max_tokens=10)
    assert (finished.reason, finished.complete) == ("length", False)
    with pytest.raises(ValueError, match="line 1"):
        json.loads(text)


@pytest.mark.parametrize("schema", [True, {}, {"type": "object"}, {"type": "array"}])
def test_blanks_never_come_for_ever(reply: Reply, schema: Any) -> None:
    for seed in range(3):
        text, _ = reply(schema, seed=seed, temperature=3.0, max_tokens=40)
        assert not text[:1].isspace()
        in_strings = text.split('"')[1::2]
        blank = "".join(part for part in text.split('"')[::2])
        assert "  " not in blank or in_strings, text


def test_a_seed_gives_the_same_json_again(reply: Reply) -> None:
    schema = {"type": "array", "items": SHORT, "minItems": 3, "maxItems": 3}
    first = reply(schema, seed=7)
    again = reply(schema, seed=7)
    assert first[0] == again[0]
    assert first[1].token_ids == again[1].token_ids
    assert reply(schema, seed=8)[0] != first[0]


def test_what_has_no_choice_is_not_drawn_token_by_token(reply: Reply) -> None:
    text, finished = reply({"const": "a long text that is known from its first letter on"})
    assert json.loads(text).startswith("a long text")
    assert finished.usage.generated_tokens == len(finished.token_ids) > 8
    cut, finished = reply({"const": "a long text that is known"}, max_tokens=3)
    assert text.startswith(cut)
    assert (len(finished.token_ids), finished.complete) == (3, False)


def test_without_llguidance_the_old_way_is_said(
    reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    text, finished = reply({"enum": ["red", "green"]}, temperature=0.0)
    assert json.loads(text) in ("red", "green")
    assert finished.complete
    assert finished.note is not None
    assert "llguidance is not installed" in finished.note
