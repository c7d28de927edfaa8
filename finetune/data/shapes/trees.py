"""Trees of messages as OpenAssistant has them: every reply is one conversation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from openchat_local.finetune.data.faults import Fault
from openchat_local.finetune.data.line import Line
from openchat_local.finetune.data.shapes.found import Found
from openchat_local.finetune.data.shapes.roles import speaker_of
from openchat_local.finetune.data.shapes.row import Row, Turn, short
from openchat_local.models.conversation import Message

TREES = "message trees"
_FLAT = ("message_id", "parent_id", "message_tree_id", "text", "role")
_MOST_DEEP = 200
_MOST_MESSAGES = 10_000  # of one tree; the largest of OpenAssistant's have some hundred


def is_tree(row: Row) -> bool:
    """Whether a row is a tree whose root is its prompt."""
    root = row.value.get("prompt")
    return isinstance(root, dict) and isinstance(root.get("replies"), list)


def tree(row: Row) -> list[Found]:
    """Every reply of the assistant under all that came before it, which is context."""
    row.used |= {"prompt", "message_tree_id", "tree_state", "message_id"}
    return [*_replies(row, row.value["prompt"], [], "prompt")]


def _replies(row: Row, node: Any, before: list[Turn], place: str) -> Iterator[Found]:
    if not isinstance(node, dict):
        row.fault(place, "is not a message")
        return
    if node.get("deleted") is True:
        return
    if len(before) > _MOST_DEEP:
        row.fault(place, "is a tree too deep")
        return
    speaker = speaker_of(str(node.get("role", "")))
    text = row.text_in(node, "text", f"{place}.")
    if speaker not in ("user", "assistant"):
        row.fault(f"{place}.role", "is neither prompter nor assistant", short(node.get("role")))
        return
    if speaker == "assistant":
        yield Found(TREES, [*before, row.answer(f"{place}.text", text)], node)
    weight = 0.0 if speaker == "assistant" else None
    turn: Turn = (Message("assistant" if speaker == "assistant" else "user", text or ""), weight)
    replies = node.get("replies")
    for number, reply in enumerate(replies if isinstance(replies, list) else ()):
        yield from _replies(row, reply, [*before, turn], f"{place}.replies[{number}]")


def gathered(lines: Iterable[Line | Fault]) -> Iterator[Line | Fault]:
    """Lines as they are; but messages that are rows by themselves, as in OpenAssistant's tables,
    become one line a tree, in the place of its first."""
    messages: list[Line] = []
    for line in lines:
        flat = isinstance(line, Line) and _is_message(line.value)
        if messages and not (flat and _tree_of(line) == _tree_of(messages[0])):
            yield from _grown(messages)
            messages = []
        if not flat or isinstance(line, Fault):
            yield line
        elif len(messages) < _MOST_MESSAGES:
            messages.append(line)
        else:
            yield Fault(line.number, "", f"is in a tree of more than {_MOST_MESSAGES:,} messages")
    if messages:
        yield from _grown(messages)


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and (
        all(name in value for name in _FLAT)
        or ("parent_id" not in value and all(n in value for n in _FLAT if n != "parent_id"))
    )


def _tree_of(line: Line | Fault) -> Any:
    return line.value.get("message_tree_id") if isinstance(line, Line) else None


def _grown(messages: list[Line]) -> Iterator[Line | Fault]:
    """The tree that the messages are, and a fault for each that hangs on nothing."""
    nodes = {str(line.value["message_id"]): dict(line.value) for line in messages}
    replies: dict[str, list[dict[str, Any]]] = {name: [] for name in nodes}
    for name, node in nodes.items():
        node["replies"] = replies[name]
    roots = []
    for line in messages:
        node, parent = nodes[str(line.value["message_id"])], line.value.get("parent_id")
        if parent is None:
            roots.append(Line(line.number, {"prompt": node}))
        elif str(parent) in replies:
            replies[str(parent)].append(node)
        else:
            yield Fault(
                line.number, "parent_id", "names a message that is not among the rows of its tree"
            )
    yield from roots
