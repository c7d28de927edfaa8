"""Lists of turns in every dialect: OpenAI's messages, ShareGPT's, with tools, in parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from openchat_local.finetune.data.remarks import PARTS, TOOLS
from openchat_local.finetune.data.shapes.calls import CallsOfTurns
from openchat_local.finetune.data.shapes.roles import KNOWN_SHOWN, Speaker, speaker_of
from openchat_local.finetune.data.shapes.row import MISSING, MOST_WEIGHT, NOT_TEXT, Row, Turn, short
from openchat_local.models.conversation import Message, Role
from openchat_local.models.thoughts import USUAL

ROLE_FIELDS = ("role", "from", "speaker", "author", "sender")
_TEXT_FIELDS = ("content", "value", "text", "message", "utterance")
_CALLS = ("tool_calls", "function_call")
_USED = frozenset({*ROLE_FIELDS, *_TEXT_FIELDS, "weight", "train", "loss"})
# What a reply thought, where it has a field of its own.
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")
# Parts of a turn that are no loss to somebody who reads only the answer.
_THOUGHTS = frozenset({"thinking", "reasoning", "redacted_thinking"})


def are_turns(value: Any) -> bool:
    """Whether a value looks like a list of turns, of whatever dialect."""
    listed = _listed(value)
    return bool(listed) and all(
        isinstance(turn, dict) and any(field in turn for field in ROLE_FIELDS)
        for turn in listed or ()
    )


def read_turns(row: Row, given: Any, field: str, *, context: bool = False) -> list[Turn]:
    """The turns in `given`, the value of `field`; with `context` no reply among them is learned
    that has no weight of its own."""
    turns = _listed(given)
    if turns is None:
        kind = "is not a list of turns"
        if isinstance(given, str) and given.startswith("[{"):
            kind += ", nor its JSON: so pandas writes lists into CSV; save them as Parquet or JSONL"
        row.fault(field, kind, short(given))
        return []
    said: list[Turn] = []
    calls = CallsOfTurns()
    for index, turn in enumerate(turns):
        place = f"{field}[{index}]"
        if not isinstance(turn, dict):
            row.fault(place, "is not a JSON object", short(turn))
            continue
        said.append(_turn(row, turn, f"{place}.", calls, context=context))
        row.ignored |= {f"{field}[].{n}": None for n, v in turn.items()
                        if n not in _USED and v is not None and not _is_thought(n, v)}  # fmt: skip
    return said


def _listed(given: Any) -> Sequence[Any] | None:
    """The turns as a list: also from their JSON, and from the columns that they were put into."""
    if isinstance(given, str) and given.lstrip().startswith("["):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return None
    if isinstance(given, dict):
        columns = {name: own for name, own in given.items() if isinstance(own, list)}
        if not columns or len({len(own) for own in columns.values()}) > 1:
            return None
        names = [*columns]
        return [
            {name: value for name, value in zip(names, values, strict=True) if value is not None}
            for values in zip(*columns.values(), strict=True)
        ]
    return given if isinstance(given, list) else None


def _turn(
    row: Row, turn: Mapping[str, Any], place: str, calls: CallsOfTurns, *, context: bool
) -> Turn:
    role_field = next((name for name in ROLE_FIELDS if name in turn), "role")
    text_field = next((name for name in _TEXT_FIELDS if name in turn), "content")
    speaker = _speaker(row, turn, role_field, place)
    call = next((name for name in _CALLS if turn.get(name)), None)
    if speaker == "assistant" and call and not turn.get(text_field):
        row.remarks[TOOLS] = None
        return calls.call(turn[call]), 0.0
    if speaker == "call" or speaker == "tool":
        row.remarks[TOOLS] = None
        given = turn.get(text_field)
        if isinstance(given, dict):
            given = json.dumps(given, ensure_ascii=False, default=str)
        written = given if isinstance(given, str) else _content(row, turn, text_field, place) or ""
        if speaker == "call":
            return calls.call(written), 0.0
        return calls.result(written, turn), None
    text = _content(row, turn, text_field, place)
    role: Role = speaker
    weight = _weight(row, turn, role, place)
    if role != "assistant":
        return Message(role, text or ""), weight
    if context and weight is None:
        weight = 0.0
    thought = next((v for n, v in turn.items() if _is_thought(n, v)), "").strip()
    if thought and text:
        text = USUAL.around(thought, text)
    said, weight = row.answer(place + text_field, text, weight)
    return (calls.beside(said, turn[call]) if call else said), weight


def _is_thought(field: str, value: Any) -> bool:
    return field in _THOUGHT_FIELDS and isinstance(value, str)


def says_who(turn: Mapping[str, Any]) -> Speaker | None:
    """Who speaks in a turn; None where it does not say."""
    value = turn.get(next((name for name in ROLE_FIELDS if name in turn), "role"))
    if isinstance(value, dict):  # {"author": {"role": …}}
        value = value.get("role")
    return speaker_of(value) if isinstance(value, str) else None


def _speaker(row: Row, turn: Mapping[str, Any], field: str, place: str) -> Speaker:
    speaker = says_who(turn)
    if speaker is None:
        if field in turn:
            row.fault(place + field, f"is none of the roles {KNOWN_SHOWN}", short(turn[field]))
        else:
            row.fault(place + field, MISSING)
    return speaker or "assistant"


def _content(row: Row, turn: Mapping[str, Any], field: str, place: str) -> str | None:
    """The text of a turn, which may come in parts."""
    content = turn.get(field)
    if not isinstance(content, list) or not content:
        return row.text_in(turn, field, place)
    texts = [*_texts(row, content, place + field)]
    if not texts:
        row.fault(place + field, "has no text in any of its parts", short(content))
    return "".join(texts)


def _texts(row: Row, parts: Sequence[Any], place: str) -> Iterator[str]:
    for number, part in enumerate(parts):
        if isinstance(part, str):
            yield part
        elif not isinstance(part, dict):
            row.fault(f"{place}[{number}]", NOT_TEXT, short(part))
        elif isinstance(text := part.get("text", part.get("refusal")), str):
            yield text
        else:
            kind = str(part.get("type", "other"))[:40]
            row.ignored[f"{place.partition('[')[0]}[].content[].{kind}"] = None
            if kind not in _THOUGHTS:
                row.remarks[PARTS] = None


def _weight(row: Row, turn: Mapping[str, Any], role: Role, place: str) -> float | None:
    """The own weight of a turn; "train" and "loss" are how others write a weight of 0."""
    weight = row.number_in(turn, "weight", place, MOST_WEIGHT)
    if role != "assistant":
        if weight:
            row.fault(
                f"{place}weight", "is not 0, and only assistant turns are learned", str(weight)
            )
        return weight
    for field in ("train", "loss"):
        if turn.get(field) is False:
            if weight:
                row.fault(place + field, "is false, and weight is not 0", str(weight))
            weight = 0.0
    return weight
