"""The formats of a line, and what can be wrong with one; `test_shapes` has the rarer ones."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.faults import Fault
from openchat_local.finetune.data.formats import read_example
from openchat_local.finetune.data.line import Line

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


def test_alpacas_history_is_the_turns_before() -> None:
    example = read({"instruction": "C", "output": "D", "history": [["A", "B"]], "system": "S"})
    told = [(message.role, message.content) for message in example.messages]
    assert told == [("system", "S"), ("user", "A"), ("assistant", "B"), ("user", "C"),
                    ("assistant", "D")]  # fmt: skip
    assert len(example.weights) == 5
    assert read({"instruction": "C", "output": "D", "history": None}).messages[0].content == "C"


@pytest.mark.parametrize("field", ["train", "loss"])
def test_a_turn_that_others_do_not_train_on_is_context(field: str) -> None:
    turns = [ASKED, {**ANSWERED, field: False}, ASKED, {**ANSWERED, field: True}]
    assert read({"messages": turns}).weights == (None, 0.0, None, None)


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [ASKED, {"role": "assistant", "content": "", "weight": 0}, ASKED, ANSWERED]},
        {"instruction": "Q", "output": "", "reward": 0},
        {"messages": [ASKED, {"role": "assistant", "content": ""}], "weight": 0.0},
    ],
)
def test_an_empty_reply_may_be_context(value: dict[str, Any]) -> None:
    read(value)


def test_fields_that_nothing_is_made_of_are_named() -> None:
    call = {**ANSWERED, "tool_calls": [{"id": 1}], "name": "x"}
    value = {"messages": [ASKED, call], "tools": [], "id": 3, "class": "a", "label": True}
    names = {"tools", "id", "label", "messages[].tool_calls", "messages[].name"}
    assert {*read(value).ignored} == names
    assert read({"instruction": "Q", "output": "A", "prompt": "x"}).ignored == ("prompt",)
    assert read({"prompt": "Q", "completion": "A", "model": "x"}, "model").ignored == ()


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
        ({"liked": False}, "liked", "false", None),
        ({"label": False}, None, "undesirable", None),
        ({"kto_tag": True}, None, "desirable", None),
        ({"label": False, "class": "gpt4"}, None, "gpt4", None),
        ({"label": "spam"}, None, "unlabelled", None),
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
        (3, "line 3: is not a JSON object (3)"),
        ([], "line 3: is not a JSON object ([])"),
        ({}, "line 3: holds no conversation in a form known here"),
        ({"messages": "x"}, "line 3, messages: is not a list of turns ('x')"),
        ({"messages": []}, "line 3: has no assistant turn"),
        ({"messages": [ASKED]}, "line 3: has no assistant turn"),
        ({"messages": [3, ANSWERED]}, "line 3, messages[0]: is not a JSON object (3)"),
        ({"items": [{"content": "x"}]}, "line 3, items[0].role: is missing"),
        (
            {"messages": [ASKED, {"role": "robot", "content": "x"}]},
            (
                "line 3, messages[1].role: is none of the roles system, user, assistant, tool and "
                "what others call them (human, gpt, …) ('robot')"
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
        (
            {"messages": [ASKED, {"role": "assistant", "content": " \n", "tool_calls": []}]},
            "messages[1].content: is empty, and the model would learn to say nothing",
        ),
        ({"instruction": "Q", "output": ""}, "line 3, output: is empty"),
        ({"prompt": "Q", "completion": "", "weight": 1}, "line 3, completion: is empty"),
        ({"instruction": "Q", "output": "A", "history": [["q", " "]]}, "history[0][1]: is empty"),
        ({"instruction": "Q", "output": "A", "history": ["q"]}, "history[0]: is not a pair of a"),
        ({"instruction": "Q", "output": "A", "history": "q"}, "history: is not a list of pairs"),
        ({"chosen": "A", "rejected": "B"}, "line 3, chosen: answers nothing: there is no prompt"),
        ({"messages": [ASKED, ANSWERED], "weight": 250}, "weight: is above 100: if it is how much"),
        ({"messages": [{**ANSWERED, "weight": 250}]}, "messages[0].weight: is above 100"),
        ({"messages": [{**ANSWERED, "weight": 1, "train": False}]}, "[0].train: is false, and we"),
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
                 "prompt", "completion", "history", "label", "tool_calls", "train", "chosen",
                 "rejected"]
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
