"""What a row says: every shape of conversations that is known, told apart by its fields.

OpenChat      {"items": [{"role", "content", "weight"}], "condition", "system"}
OpenAI        {"messages": [{"role", "content", "weight"}]}
ShareGPT      {"conversations": [{"from", "value"}]}, and dialects of it
Alpaca        {"instruction", "input", "output", "history"}
completion    {"prompt", "completion"}, or what others call them; each text or turns
preference    {"prompt", "chosen", "rejected"}: two conversations, of two classes
completions   {"instruction", "completions": [{"response", …}]}: one a completion
trees         {"prompt": {"text", "role", "replies": […]}}: one a reply
transcript    {"text": "Human: … Assistant: …"}

Each may have "class", "condition", "reward", "weight" (the same as a reward) and "system".
Other fields are counted and named, and mean nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.faults import Fault
from openchat_local.finetune.data.line import Line
from openchat_local.finetune.data.reading import PLAIN, Reading
from openchat_local.finetune.data.remarks import OPENS
from openchat_local.finetune.data.shapes.answers import ANSWERS, QUESTIONS, alpaca, exchange
from openchat_local.finetune.data.shapes.calls import as_calls, as_text, declared
from openchat_local.finetune.data.shapes.found import Found
from openchat_local.finetune.data.shapes.preferences import (
    SIDES,
    completions,
    is_completions,
    is_preference,
    preference,
)
from openchat_local.finetune.data.shapes.row import Row, Turn, short
from openchat_local.finetune.data.shapes.transcripts import as_turns, transcript
from openchat_local.finetune.data.shapes.trees import is_tree, tree
from openchat_local.finetune.data.shapes.turns import are_turns, read_turns
from openchat_local.finetune.data.worth import SCORES, VERDICTS, class_of, field_names, worth_of
from openchat_local.models.conversation import Message

_LISTS = {"items": "OpenChat", "messages": "OpenAI messages", "conversations": "ShareGPT"}
_OTHER_LISTS = ("conversation", "turns", "dialogue", "dialog", "chat")
_SYSTEM = ("system", "system_prompt", "system_message")
# What a conversation may have in every shape.
_COMMON = frozenset({"class", "condition", "reward", "weight"})
_KNOWN = "items, messages, conversations, instruction and output, prompt and completion"


def read_row(line: Line, reading: Reading = PLAIN) -> tuple[Example, ...] | list[Fault]:
    """The conversations of a row, or everything that is wrong with it."""
    value = line.value
    if are_turns(value):
        value = {"messages": value}
    if not isinstance(value, dict):
        return [Fault(line.number, "", "is not a JSON object", short(line.value))]
    row = Row(line.number, value)
    if reading.columns:
        _rename(row, value, reading.columns)
    examples = tuple(
        _example(row, found, part, reading) for part, found in enumerate(_found(row, reading))
    )
    for example in examples:
        if not row.faults and all(turn.role != "assistant" for turn in example.messages):
            row.fault("", "has no assistant turn, so there is nothing to learn from it")
    return [_in_their_names(fault, reading.columns) for fault in row.faults] or examples


def read_example(line: Line, class_field: str | None = None) -> Example | list[Fault]:
    """The conversation of a row, the first where it holds several: of a preference, that is the
    better. `class_field` is as in `Reading`."""
    found = read_row(line, Reading(class_field) if class_field else PLAIN)
    return found if isinstance(found, list) else found[0]


def columns_read(reading: Reading) -> frozenset[str]:
    """The names of all fields that anything is made of, or that somebody should hear of."""
    own = {*reading.columns.values()}
    for field in (reading.class_field, reading.reward_field):
        own |= {*field_names(field)} if field else set()
    return frozenset(
        {
            *_COMMON, *_LISTS, *_OTHER_LISTS, *_SYSTEM, *VERDICTS, *SIDES, *QUESTIONS, *ANSWERS,
            *SCORES, "tools", "functions", "history", "context", "completions", "text",
            "message_id", "parent_id", "message_tree_id", "role", "deleted", *own,
        }
    )  # fmt: skip


def _rename(row: Row, value: Mapping[str, Any], columns: Mapping[str, str]) -> None:
    """Put the fields that --columns names in the places that it names."""
    for name in columns.values():
        if name not in value:
            row.fault(name, "is missing, and --columns names it")
    others = {name: own for name, own in value.items() if name not in columns.values()}
    named = {name: value[theirs] for name, theirs in columns.items() if theirs in value}
    row.value = others | named


def _in_their_names(fault: Fault, columns: Mapping[str, str]) -> Fault:
    name, *rest = fault.field.split("[", 1)
    if name not in columns:
        return fault
    return Fault(fault.line, "[".join([columns[name], *rest]), fault.kind, fault.detail)


def _found(row: Row, reading: Reading) -> list[Found]:
    """What the row is taken for: what --format says, or else the first that it can be."""
    shapes: dict[str, Callable[[], Found | list[Found] | None]] = {
        "preference": lambda: preference(row) if is_preference(row) else None,
        "messages": lambda: _turns(row),
        "completions": lambda: completions(row) if is_completions(row) else None,
        "tree": lambda: tree(row) if is_tree(row) else None,
        "alpaca": lambda: alpaca(row),
        "prompt": lambda: exchange(row),
        "transcript": lambda: _transcript(row),
    }
    for name in shapes if reading.format is None else (reading.format,):
        found = shapes[name]()
        if found is not None:
            return [found] if isinstance(found, Found) else found
    if row.faults:  # of --columns
        return []
    fields = short(", ".join(map(str, row.value)))[1:-1] or "none"
    lists = (name for name, own in row.value.items() if _are_rows(own))
    inner = next((name for name in lists if str(name).isidentifier()), None)
    if reading.format is not None:
        row.fault("", f"is not {reading.format}, which --format says it is", f"fields: {fields}")
    elif inner is not None and len(row.value) < 5:
        row.fault(
            inner,
            "is a list of rows, inside one: write these by themselves, a row a line, "
            f"as `jq -c '.{inner}[]'` does",
        )
    else:
        row.fault(
            "",
            f"holds no conversation in a form known here: {_KNOWN}; "
            "--columns prompt=FIELD,completion=FIELD says what others mean",
            f"fields: {fields}",
        )
    return []


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _turns(row: Row) -> Found | None:
    for field, format in _LISTS.items():
        if field in row.value:
            row.used.add(field)
            return Found(format, read_turns(row, row.value[field], field))
    for field in _OTHER_LISTS:
        if are_turns(row.value.get(field)):
            row.used.add(field)
            return Found(f"ShareGPT ({field})", read_turns(row, row.value[field], field))
    return None


def _transcript(row: Row) -> Found | None:
    text = row.value.get("text")
    said = transcript(text) if isinstance(text, str) else None
    if said is None:
        return None
    row.used.add("text")
    return Found("transcript (text)", as_turns(said, context=False))


def _example(row: Row, found: Found, part: int, reading: Reading) -> Example:
    row.used |= {*_COMMON} if not found.side else set()
    turns = [*_system(row), *found.turns]
    turns, opens = _opening_as_context(turns)
    condition = None if found.side else row.text("condition", required=False)
    name = class_of(row, found, reading, condition)
    reward, score = worth_of(row, found, reading)
    unused = (
        field for field, own in row.value.items() if field not in row.used and own is not None
    )
    calling, plain = as_calls(turns), as_text(turns)
    return Example(
        row.line,
        found.format,
        tuple(message for message, _ in plain),
        tuple(weight for _, weight in plain),
        name,
        None if condition is None else condition.strip(),
        reward,
        (*unused, *row.ignored),
        part,
        score,
        (*row.remarks, *([OPENS] if opens else [])),
        tuple(message for message, _ in calling),
        tuple(weight for _, weight in calling),
        declared(row.value) if calling else "",
    )


def _system(row: Row) -> list[Turn]:
    field = next((name for name in _SYSTEM if row.value.get(name) is not None), "system")
    text = row.text(field, required=False)
    return [(Message("system", text), None)] if text else []


def _opening_as_context(turns: list[Turn]) -> tuple[list[Turn], bool]:
    """The turns, what the model says before it is asked anything as context: a greeting is no
    answer. Not so where it is all that there is, or has a weight of its own."""
    roles = [message.role for message, _ in turns]
    first = roles.index("user") if "user" in roles else 0
    if "assistant" not in roles[:first] or "assistant" not in roles[first:]:
        return turns, False
    opening = [
        (message, 0.0 if message.role == "assistant" and weight is None else weight)
        for message, weight in turns[:first]
    ]
    return [*opening, *turns[first:]], opening != turns[:first]
