"""The five formats of a line, and what can be wrong with one."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.data.faults import Fault
from openchat_local.finetune.data.formats import Example, read_example
from openchat_local.finetune.data.lines import Line

ASKED = {"role": "user", "content": "Q"}
ANSWERED = {"role": "assistant", "content": "A"}


def read(value: Any, class_field: str | None = None) -> Example:
    example = read_example(Line(1, value), class_field)
    assert isinstance(example, Example), [str(fault) for fault in example]
    return example


def faults(value: Any, class_field: str | None = None) -> list[str]:
    found = read_example(Line(3, value), class_field)
    assert not isinstance(found, Example)
    return [str(fault) for fault in found]


@pytest.mark.parametrize(
    ("value", "format"),
    [
        ({"items": [{**ASKED, "weight": 0.0}, {**ANSWERED, "weight": 1.0}]}, "OpenChat"),
        ({"messages": [ASKED, ANSWERED], "id": 7, "prompt": "unused"}, "OpenAI messages"),
        (
            {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
            "ShareGPT",
        ),
        ({"conversations": [ASKED, ANSWERED]}, "ShareGPT"),
        ({"instruction": "Q", "input": "", "output": "A"}, "Alpaca"),
        ({"instruction": "Q", "output": "A"}, "Alpaca"),
        ({"prompt": "Q", "completion": "A"}, "prompt/completion"),
    ],
)
def test_each_format_is_recognised(value: dict[str, Any], format: str) -> None:
    example = read(value)
    assert example.format == format
    assert [(m.role, m.content) for m in example.messages] == [("user", "Q"), ("assistant", "A")]
    assert example.class_name == "unlabelled"
    assert example.condition is None


def test_alpacas_input_follows_its_instruction() -> None:
    example = read({"instruction": "Add", "input": "1, 2", "output": "3"})
    assert example.messages[0].content == "Add\n\n1, 2"


def test_a_system_field_is_the_first_turn() -> None:
    example = read({"items": [ASKED, ANSWERED], "system": "S"})
    assert next((m.role, m.content) for m in example.messages) == ("system", "S")
    assert len(example.weights) == 3


def test_weights_and_rewards() -> None:
    turns = [ASKED, ANSWERED, ASKED, {**ANSWERED, "weight": 0.25}]
    example = read({"messages": turns, "reward": 0.5})
    assert example.weights == (None, None, None, 0.25)
    assert (example.own_weight(1), example.own_weight(3)) == (0.5, 0.25)
    assert read({"messages": turns, "weight": 2}).reward == 2


@pytest.mark.parametrize(
    ("fields", "class_field", "class_name", "condition"),
    [
        ({"class": "gpt4"}, None, "gpt4", None),
        ({"class": " gpt4 ", "condition": "Code"}, None, "gpt4", "Code"),
        ({"condition": "GPT4 Correct"}, None, "GPT4 Correct", "GPT4 Correct"),
        ({"condition": ""}, None, "unlabelled", ""),
        ({"class": None, "condition": None}, None, "unlabelled", None),
        ({"model": "gpt-4", "class": "x"}, "model", "gpt-4", None),
        ({"stars": 5}, "stars", "5", None),
    ],
)
def test_where_the_class_comes_from(
    fields: dict[str, Any], class_field: str | None, class_name: str, condition: str | None
) -> None:
    example = read({"messages": [ASKED, ANSWERED], **fields}, class_field)
    assert (example.class_name, example.condition) == (class_name, condition)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (3, "line 3: is no JSON object (3)"),
        ([], "line 3: is no JSON object ([])"),
        ({}, "line 3: holds no conversation in a form known here"),
        ({"messages": "x"}, "line 3, messages: is not a list of turns ('x')"),
        ({"messages": []}, "line 3: has no assistant turn"),
        ({"messages": [ASKED]}, "line 3: has no assistant turn"),
        ({"messages": [3, ANSWERED]}, "line 3, messages[0]: is no JSON object (3)"),
        ({"items": [{"content": "x"}]}, "line 3, items[0].role: is missing"),
        (
            {"messages": [ASKED, {"role": "tool", "content": "x"}]},
            (
                "line 3, messages[1].role: is none of the roles system, developer, user, human,"
                " assistant, gpt, chatgpt ('tool')"
            ),
        ),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role: is none of"),
        ({"messages": [ASKED, {"role": "assistant"}]}, "messages[1].content: is missing"),
        ({"messages": [{**ANSWERED, "content": None}]}, "messages[0].content: is not text (null)"),
        ({"messages": [{**ANSWERED, "weight": -0.5}]}, "messages[0].weight: is not a number from"),
        ({"messages": [{**ANSWERED, "weight": math.nan}]}, "weight: is not a number from 0 to"),
        ({"messages": [{**ANSWERED, "weight": math.inf}]}, "weight: is not a number from 0 to"),
        ({"messages": [{**ANSWERED, "weight": 10**400}]}, "weight: is not a number from 0 to"),
        ({"messages": [{**ANSWERED, "weight": "1"}]}, "messages[0].weight: is not a number ('1')"),
        (
            {"messages": [{**ANSWERED, "weight": True}]},
            "messages[0].weight: is not a number (true)",
        ),
        (
            {"messages": [{**ASKED, "weight": 1}, ANSWERED]},
            "messages[0].weight: is not 0, and only assistant turns are learned (1.0)",
        ),
        ({"messages": [ANSWERED], "reward": -1}, "line 3, reward: is not a number from 0"),
        ({"messages": [ANSWERED], "reward": 1, "weight": 2}, "reward: is not what weight says"),
        ({"messages": [ANSWERED], "class": ["a"]}, 'line 3, class: is not text (["a"])'),
        ({"messages": [ANSWERED], "condition": 3}, "line 3, condition: is not text (3)"),
        ({"messages": [ANSWERED], "system": 3}, "line 3, system: is not text (3)"),
        ({"instruction": "x"}, "line 3, output: is missing"),
        ({"instruction": "x", "input": 3, "output": "y"}, "line 3, input: is not text (3)"),
        ({"prompt": "x"}, "line 3, completion: is missing"),
        ({"prompt": ["x"], "completion": "y"}, 'line 3, prompt: is not text (["x"])'),
    ],
)
def test_a_fault_names_line_and_field(value: Any, sentence: str) -> None:
    (fault,) = faults(value)
    assert sentence in fault


def test_a_missing_class_field_is_a_fault() -> None:
    assert faults({"messages": [ANSWERED], "class": "x"}, "model") == [
        "line 3, model: is missing, and --class-field names it"
    ]


def test_all_faults_of_a_line_are_told() -> None:
    turns = [{"role": "robot", "content": 3}, {**ANSWERED, "weight": -1}]
    found = faults({"messages": turns, "reward": "x", "condition": []})
    assert [fault.split(":")[0] for fault in found] == [
        "line 3, messages[0].role",
        "line 3, messages[0].content",
        "line 3, messages[1].weight",
        "line 3, condition",
        "line 3, reward",
    ]


def test_a_fault_shows_what_a_terminal_would_obey_escaped() -> None:
    (fault,) = faults({"messages": [{"role": "\x1b[2J\x9b\u202e", "content": "x"}]})
    assert fault.isprintable()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["items", "messages", "conversations", "role", "content", "from", "value", "weight",
                 "reward", "class", "condition", "system", "instruction", "input", "output",
                 "prompt", "completion"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@given(value=json_values)
def test_any_json_is_an_example_or_has_faults(value: Any) -> None:
    found = read_example(Line(1, json.loads(json.dumps(value))))
    if isinstance(found, Example):
        assert any(message.role == "assistant" for message in found.messages)
        assert len(found.weights) == len(found.messages)
        assert all(weight is None or 0 <= weight < math.inf for weight in found.weights)
    else:
        assert found
        assert all(isinstance(fault, Fault) for fault in found)
