"""Every shape of a row, against the conversation that it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.examples import without_opening
from openchat_local.finetune.data.faults import Fault
from openchat_local.finetune.data.formats import read_row
from openchat_local.finetune.data.line import Line
from openchat_local.finetune.data.reading import PLAIN, Reading, ReadingError, reading_of
from openchat_local.finetune.data.remarks import OPENS, PARTS, TOOLS
from openchat_local.finetune.data.scores import parse_classes
from openchat_local.finetune.data.shapes.roles import _SPEAKER_OF, speaker_of
from openchat_local.finetune.data.shapes.trees import gathered
from openchat_local.models.conversation import Message, ToolCall

Q, A = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
B = {"role": "assistant", "content": "B"}
ASKED = [("user", "Q"), ("assistant", "A")]


def read(value: Any, reading: Reading = PLAIN) -> tuple[Example, ...]:
    found = read_row(Line(1, value), reading)
    assert isinstance(found, tuple), [str(fault) for fault in found]
    return found


def faults(value: Any, reading: Reading = PLAIN) -> list[str]:
    found = read_row(Line(3, value), reading)
    assert isinstance(found, list)
    return [str(fault) for fault in found]


def told(example: Example) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in example.messages]


def by_flags(**flags: Any) -> Reading:
    names = ("class_field", "classes", "reward_field", "reward_map")
    return reading_of(
        *(flags.get(name) for name in names), flags.get("columns", {}), flags.get("format")
    )


SHAREGPT = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]


@pytest.mark.parametrize(
    ("value", "format"),
    [
        ([Q, A], "OpenAI messages"),
        ({"conversation": [Q, A], "model": "x"}, "ShareGPT (conversation)"),
        ({"turns": SHAREGPT}, "ShareGPT (turns)"),
        ({"dialogue": [{"speaker": "User:", "text": "Q"}, {"speaker": "Bot:", "text": "A"}]},
         "ShareGPT (dialogue)"),
        ({"conversations": [{"from": "prompter", "value": "Q"}, {"from": "bard", "value": "A"}]},
         "ShareGPT"),
        ({"conversations": {"from": ["human", "gpt"], "value": ["Q", "A"]}}, "ShareGPT"),
        ({"messages": '[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]'},
         "OpenAI messages"),
        ({"messages": [{"author": {"role": "user"}, "content": "Q"}, A]}, "OpenAI messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}]}, A]},
         "OpenAI messages"),
        ({"instruction": "Q", "context": "", "response": "A"}, "Alpaca (instruction, response)"),
        ({"question": "Q", "answer": "A"}, "prompt/completion (question, answer)"),
        ({"prompt": "Q", "response": "A"}, "prompt/completion (prompt, response)"),
        ({"input": "Q", "output": "A"}, "prompt/completion (input, output)"),
        ({"prompt": [Q], "completion": [A]}, "prompt/completion"),
        ({"prompt": [Q], "completion": "A"}, "prompt/completion"),
        ({"prompt": "\n\nHuman: Q\n\nAssistant:", "response": "A"},
         "prompt/completion (prompt, response)"),
        ({"text": "### Human: Q### Assistant: A"}, "transcript (text)"),
        ({"text": "Human: Q\n\nAssistant: A"}, "transcript (text)"),
    ],
    ids=str,
)  # fmt: skip
def test_each_dialect_is_one_conversation(value: Any, format: str) -> None:
    (example,) = read(value)
    assert (told(example), example.format) == (ASKED, format)
    assert example.reply_weights() == [None]


def test_turns_as_pandas_writes_them_into_csv_are_told() -> None:
    (fault,) = faults({"messages": "[{'role': 'user', 'content': 'Q'}\n {'role': 'assistant'}]"})
    assert "messages: is not a list of turns, nor its JSON: so pandas writes lists" in fault


def test_a_system_prompt_may_be_called_so() -> None:
    (example,) = read({"system_prompt": "S", "question": "Q", "response": "A"})
    assert told(example) == [("system", "S"), *ASKED]
    assert example.ignored == ()


@given(
    role=st.sampled_from(sorted(_SPEAKER_OF)),
    change=st.sampled_from([str, str.upper, str.title, lambda name: f" {name}: "]),
    gap=st.sampled_from(["", "_", "-", " ", "."]),
    at=st.integers(1, 6),
)
def test_roles_are_known_however_they_are_spelled(
    role: str, change: Any, gap: str, at: int
) -> None:
    spelled = change(role[:at] + gap + role[at:] if len(role) > at else role)
    assert speaker_of(spelled) == _SPEAKER_OF[role]


@given(st.text(max_size=12))
def test_any_other_role_is_none(role: str) -> None:
    bare = "".join(sign for sign in role.casefold() if not sign.isspace() and sign not in "_.:-")
    assert (speaker_of(role) is not None) == (bare in _SPEAKER_OF)


def test_a_conversation_that_the_model_opens_begins_with_context() -> None:
    hello = {"role": "assistant", "content": "Hello!"}
    (example,) = read({"messages": [hello, Q, A]})
    assert (example.weights, example.remarks) == ((0.0, None, None), (OPENS,))
    assert told(without_opening(example)) == ASKED
    assert read({"messages": [{**hello, "weight": 1}, Q, A]})[0].weights == (1.0, None, None)
    assert read({"messages": [hello]})[0].weights == (None,)  # there is nothing else to learn


def test_calls_and_what_came_back_are_context() -> None:
    call = {"function": {"name": "weather", "arguments": '{"in": "Ulm"}'}}
    calls = [{**call, "id": "1"}, {**call, "id": "2"}]
    turns = [
        Q,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "2", "content": "sun"},
        {"role": "tool", "tool_call_id": "1", "content": {"rain": True}},
        A,
    ]
    (example,) = read({"messages": turns, "tools": []})
    line = '{"name": "weather", "arguments": {"in": "Ulm"}}'
    assert told(example) == [
        ("user", "Q"), ("assistant", f"{line}\n{line}"), ("user", 'sun\n{"rain": true}'),
        ("assistant", "A"),
    ]  # fmt: skip
    assert example.reply_weights() == [0.0, None]
    assert example.remarks == (TOOLS,)
    first, second = (ToolCall("weather", '{"in": "Ulm"}', f"call0000{n}") for n in (1, 2))
    assert example.calling == (
        Message("user", "Q"), Message("assistant", "", calls=(first, second)),
        Message("user", "sun", result_of=second),
        Message("user", '{"rain": true}', result_of=first),
        Message("assistant", "A"),
    )  # fmt: skip
    assert example.calling_weights == (None, 0.0, None, None, None)
    assert {*example.ignored} == {"tools", "messages[].tool_calls", "messages[].tool_call_id"}


def test_sharegpts_observations_are_context() -> None:
    names = ("human", "function_call", "observation", "gpt")
    turns = [{"from": name, "value": name} for name in names]
    (example,) = read({"conversations": turns})
    assert [role for role, _ in told(example)] == ["user", "assistant", "user", "assistant"]
    assert example.reply_weights() == [0.0, None]


def test_of_parts_the_text_is_read_and_the_rest_is_told() -> None:
    parts = [{"type": "text", "text": "Q"}, {"type": "image_url", "image_url": {"url": "x"}}]
    (example,) = read({"messages": [{"role": "user", "content": parts}, A]})
    assert (told(example), example.remarks) == (ASKED, (PARTS,))
    assert example.ignored == ("messages[].content[].image_url",)
    (fault,) = faults({"messages": [{"role": "user", "content": parts[1:]}, A]})
    assert "messages[0].content: has no text in any of its parts" in fault


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"question": "Q", "chosen": "A", "rejected": "B"},
        {"prompt": "Q", "chosen": [Q, A], "rejected": [Q, B], "messages": [Q, A]},
        {"prompt": [Q], "chosen": [A], "rejected": [B]},
        {"chosen": [Q, A], "rejected": [Q, B]},
        {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
        {"prompt": "\n\nHuman: Q\n\nAssistant:", "chosen": "A", "rejected": "B"},
        {"prompt": "Q", "chosen": A, "rejected": B},
    ],
    ids=str,
)
def test_preferences_are_two_conversations_of_two_classes(value: dict[str, Any]) -> None:
    better, worse = read(value)
    assert (told(better), better.class_name, better.part) == (ASKED, "chosen", 0)
    assert (told(worse), worse.class_name, worse.part) == (
        [("user", "Q"), ("assistant", "B")], "rejected", 1,
    )  # fmt: skip


def test_what_both_answers_begin_with_is_context() -> None:
    before = [Q, {"role": "assistant", "content": "first"}, Q]
    better, worse = read({"chosen": [*before, A], "rejected": [*before, B], "system": "S"})
    assert better.reply_weights() == worse.reply_weights() == [0.0, None]
    assert told(better)[0] == ("system", "S")
    (example,) = read({"prompt": before, "completion": [A]})
    assert example.reply_weights() == [0.0, None]


def test_answers_of_a_preference_have_scores_of_their_own() -> None:
    value = {"prompt": "Q", "chosen": "A", "rejected": "B", "score_chosen": 9, "score_rejected": 3}
    better, worse = read(value, by_flags(reward_field="score", reward_map="0:0,10:1"))
    assert (better.reward, worse.reward) == (0.9, 0.3)
    assert better.ignored == worse.ignored == ()
    answers = {"prompt": "Q", "chosen": "A", "rejected": "B"}
    dashed = {**answers, "chosen-rating": 5, "rejected-rating": 1}
    classes = by_flags(class_field="rating", classes="good>=4,poor")
    assert [one.class_name for one in read(dashed, classes)] == ["good", "poor"]


def test_kto_labels_are_two_classes() -> None:
    rows = [{"prompt": "Q", "completion": "A", "label": label} for label in (True, False)]
    assert [read(row)[0].class_name for row in rows] == ["desirable", "undesirable"]


def test_every_completion_of_a_row_is_a_conversation() -> None:
    answers = [
        {"model": "gpt-4", "response": "A", "overall_score": 8.5, "annotations": {"help": "5"}},
        {"model": "bard", "response": "B", "overall_score": 2, "annotations": {"help": "1"}},
    ]
    value = {"instruction": "Q", "completions": answers, "source": "x"}
    first, second = read(value, by_flags(class_field="model", reward_field="overall_score",
                                         reward_map="0:0,10:1"))  # fmt: skip
    assert (told(first), first.class_name, first.reward) == (ASKED, "gpt-4", 0.85)
    assert (second.class_name, second.reward, second.part) == ("bard", 0.2, 1)
    dotted = by_flags(class_field="annotations.help", classes="good>=4,poor")
    assert [one.class_name for one in read(value, dotted)] == ["good", "poor"]


TREE = {
    "message_tree_id": "t",
    "prompt": {
        "text": "Q", "role": "prompter", "replies": [
            {"text": "A", "role": "assistant", "rank": 0, "replies": [
                {"text": "Q2", "role": "prompter", "replies": [
                    {"text": "A2", "role": "assistant", "rank": 0, "replies": []}]}]},
            {"text": "B", "role": "assistant", "rank": 1, "replies": []},
            {"text": "gone", "role": "assistant", "deleted": True, "replies": []},
        ],
    },
}  # fmt: skip
FLAT = [
    {"message_id": "1", "parent_id": None, "message_tree_id": "t", "text": "Q", "role": "prompter"},
    {"message_id": "2", "parent_id": "1", "message_tree_id": "t", "text": "A", "role": "assistant",
     "rank": 0},
    {"message_id": "3", "parent_id": "1", "message_tree_id": "t", "text": "B", "role": "assistant",
     "rank": 1},
    {"message_id": "4", "parent_id": "2", "message_tree_id": "t", "text": "Q2", "role": "prompter"},
    {"message_id": "5", "parent_id": "4", "message_tree_id": "t", "text": "A2", "role": "assistant",
     "rank": 0},
]  # fmt: skip


def test_every_reply_of_a_tree_is_learned_once() -> None:
    reading = by_flags(class_field="rank", classes="best<=0,other")
    (line,) = gathered(Line(number, row) for number, row in enumerate(FLAT, 1))
    assert isinstance(line, Line)
    for value in (TREE, line.value):
        found = read(value, reading)
        assert [told(example)[-1][1] for example in found] == ["A", "A2", "B"]
        assert [example.class_name for example in found] == ["best", "best", "other"]
        assert told(found[1]) == [*ASKED, ("user", "Q2"), ("assistant", "A2")]
        assert found[1].reply_weights() == [0.0, None]


def test_a_message_that_hangs_on_nothing_is_told() -> None:
    other = {**FLAT[0], "message_id": "9", "message_tree_id": "u", "parent_id": "1"}
    lines = [Line(1, FLAT[0]), Line(2, FLAT[1]), Line(3, other), Line(4, {"prompt": "Q"})]
    tree, fault, last = gathered(lines)
    assert isinstance(tree, Line)
    assert tree.number == 1
    assert isinstance(fault, Fault)
    assert fault.line == 3
    assert last == lines[3]


def test_columns_and_formats_are_what_flags_say() -> None:
    row = {"question": "Q", "answer": "x", "response": "A"}
    (fault,) = faults(row)
    assert "has several meanings, since response or answer could be the answer" in fault
    assert "--columns prompt=question,completion=response" in fault
    columns = by_flags(columns={"prompt": "question", "completion": "response"})
    (example,) = read(row, columns)
    assert (told(example), example.ignored) == (ASKED, ("answer",))
    assert "line 3, question: is not text (3)" in faults({"question": 3, "response": "A"}, columns)
    assert "line 3, response: is missing, and --columns names it" in faults(
        {"question": "Q"}, columns
    )
    both = {"messages": [Q, B], "prompt": "Q", "completion": "A"}
    assert told(read(both)[0])[-1] == ("assistant", "B")
    assert told(read(both, by_flags(format="prompt"))[0]) == ASKED
    assert "is not tree, which --format says it is" in faults(both, by_flags(format="tree"))[0]
    assert "(fields: a, b)" in faults({"a": 1, "b": 2})[0]
    assert "jq -c '.data[]'" in faults({"version": 1, "data": [{"prompt": "Q"}]})[0]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "score: is missing, and --class-field names it"),
        ({"score": "good"}, "score: is not a number, and --classes parts numbers ('good')"),
        ({"score": "1,234"}, "score: is not a number, and --classes parts numbers ('1,234')"),
        ({"score": float("nan")}, "score: is not a number, and --classes parts numbers (nan)"),
        ({"score": None}, "score: is not a number, and --classes parts numbers (null)"),
        ({"score": True}, "score: is not a number, and --classes parts numbers (true)"),
        ({"score": 1}, "score: is in none of the --classes: name one for the rest (1)"),
    ],
    ids=str,
)
def test_a_score_that_is_no_number_is_a_fault(value: dict[str, Any], sentence: str) -> None:
    row = {"prompt": "Q", "completion": "A", **value}
    assert faults(row, by_flags(class_field="score", classes="good>=4,fair>=2.5")) == [
        f"line 3, {sentence}"
    ]


def test_classes_by_a_number() -> None:
    found = parse_classes(" good>=4, so so > 2.5 ,poor")
    assert [found.class_of(number) for number in (4, 3.9, 2.5, -1)] == [
        "good", "so so", "poor", "poor",
    ]  # fmt: skip
    assert str(found) == "good >= 4, so so > 2.5, else poor"
    row = {"prompt": "Q", "completion": "A", "score": " 4.5 "}
    assert read(row, Reading("score", found))[0].class_name == "good"


@pytest.mark.parametrize(
    "text", ["", "good", "good>=x,poor", "good>=4,", "a>=1,b>=2,c", "a<=2,b<=1", "a>=2,a", "a=1,b"]
)
def test_words_that_say_no_classes_are_a_sentence(text: str) -> None:
    with pytest.raises(Exception, match=r"give good>=4,bad|turn them round"):
        parse_classes(text)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"classes": "a>=1,b"}, "--classes needs --class-field"),
        ({"reward_map": "0:0,1:1"}, "--reward-map needs --reward-field"),
        ({"columns": {"qestion": "x"}}, "and not 'qestion'"),
        ({"format": "xml"}, "'xml' is no format"),
    ],
)
def test_flags_that_say_nothing_are_a_sentence(flags: dict[str, Any], says: str) -> None:
    with pytest.raises(ReadingError, match=says):
        by_flags(**flags)


def test_a_reward_below_0_is_a_fault() -> None:
    row = {"prompt": "Q", "completion": "A", "score": -3}
    (fault,) = faults(row, by_flags(reward_field="score", reward_map="linear"))
    assert "score: is worth less than 0 or more than 1,000,000 by --reward-map (-3)" in fault


FIELDS = [
    "messages", "conversation", "turns", "chosen", "rejected", "prompt", "completion", "response",
    "completions", "instruction", "question", "answer", "context", "history", "text", "role",
    "from", "content", "value", "speaker", "tool_calls", "arguments", "type", "replies",
    "score", "label",
    "system_prompt", "deleted", "message_id", "parent_id", "message_tree_id",
]  # fmt: skip
leaves = st.sampled_from(
    [None, True, 0, 1.5, "", "a", "user", "gpt", "tool", "function_call", "prompter", "assistant",
     "Human: a\n\nAssistant: b", "### Human: x", "[1", "1,2", "é"]
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)
    ),
    max_leaves=16,
)
READINGS = [
    PLAIN,
    by_flags(class_field="score", classes="good>=1,bad"),
    by_flags(reward_field="score", columns={"prompt": "question", "completion": "answer"}),
    *(by_flags(format=name) for name in ("preference", "tree", "messages", "completions")),
]


@given(rows=st.lists(values, max_size=4), reading=st.sampled_from(READINGS))
def test_any_rows_are_conversations_or_have_faults(rows: list[Any], reading: Reading) -> None:
    for line in gathered(Line(number, row) for number, row in enumerate(rows, 1)):
        if isinstance(line, Fault):
            continue
        found = read_row(line, reading)
        assert found
        for one in found:
            if isinstance(one, Fault):
                assert str(one).isprintable()
                continue
            assert len(one.weights) == len(one.messages)
            assert any(message.role == "assistant" for message in one.messages)
            assert all(isinstance(message.content, str) for message in one.messages)
            again = read(one.as_row())[0]
            assert (again.messages, again.weights) == (one.messages, one.weights)
