"""What a row of a file of prompts asks, in whatever form it is written.

MT-bench, Vicuna-bench   {"question_id", "category", "turns": [...], "reference": [...]}, or "text"
AlpacaEval               {"instruction", "input", "dataset"}
a prompt by itself       {"prompt": "..."}, or a list of turns; or just "..."
what one trains on       the formats of `finetune`: all that stands before the last answer
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.faults import Fault
from openchat_local.finetune.data.formats import read_example
from openchat_local.finetune.data.line import Line
from openchat_local.finetune.data.shapes.turns import are_turns, says_who
from openchat_local.models.conversation import Message

_LISTS = ("items", "messages", "conversations", "conversation", "dialogue")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked. `messages` are all turns before the first answer, the last of them a
    user's; `follow_ups` are asked after it, each after the answer to the one before.

    `line` is where it stands in the file (from 1), `name` the file's own for it, `category` ""
    where it has none; `references` are right answers, one a turn, or none at all.
    """

    line: int
    name: str
    category: str
    messages: tuple[Message, ...]
    follow_ups: tuple[str, ...] = ()
    references: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Tells prompts that ask different things (32 hexadecimal digits)."""
        asked = [[turn.role, turn.content] for turn in self.messages]
        text = json.dumps([asked, self.follow_ups])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def asked(self) -> str:
        """The user's turn that is answered first."""
        return self.messages[-1].content


def read_prompt(row: Line) -> Prompt | list[Fault]:
    """The prompt of a row, or all that is wrong with it."""
    reader = _Reader(row.number)
    prompt = reader.prompt(row.value)
    return reader.faults or prompt


class _Reader:
    """Reads one row and collects its faults; what it returns is only good without any."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.faults: list[Fault] = []

    def prompt(self, value: Any) -> Prompt:
        if isinstance(value, str):
            return self.made("", "", [self.spoken("", value)])
        if not isinstance(value, dict):
            self.fault("", "is neither a prompt nor a JSON object", _short(value))
            return self.made("", "", [])
        name, category = self.name(value), self.category(value)
        references = self.references(value)
        messages, follow_ups = self.asked(value)
        if references and len(references) != 1 + len(follow_ups):
            self.fault("reference", "has not as many answers as there are turns")
        return self.made(name, category, messages, follow_ups, references)

    def made(
        self,
        name: str,
        category: str,
        messages: Sequence[Message],
        follow_ups: Sequence[str] = (),
        references: Sequence[str] = (),
    ) -> Prompt:
        whole = tuple(Message(turn.role, _characters(turn.content)) for turn in messages)
        later, right = (tuple(map(_characters, texts)) for texts in (follow_ups, references))
        return Prompt(self.line, _characters(name), _characters(category), whole, later, right)

    def asked(self, value: dict[str, Any]) -> tuple[list[Message], list[str]]:
        """The turns before the first answer, and the user's turns after it."""
        lists = any(field in value for field in _LISTS) or are_turns(value.get("turns"))
        pair = "chosen" in value and "prompt" not in value and "question" not in value
        if lists or pair or "history" in value:
            return self.before_the_last_answer(value), []
        system = value.get("system")
        if system is not None and not isinstance(system, str):
            self.fault("system", "is not text", _short(system))
        opening = [Message("system", system)] if isinstance(system, str) and system else []
        for field in ("turns", "prompt", "text", "instruction", "question", "query"):
            if field not in value:
                continue
            first, *others = self.turns(value, field)
            return [*opening, first], [turn.content for turn in others]
        known = "turns, text, instruction, prompt, question, items, messages or conversations"
        self.fault("", f"holds no prompt in a form known here: {known}")
        return [], []

    def turns(self, value: dict[str, Any], field: str) -> list[Message]:
        given = value[field]
        if isinstance(given, list) and field in ("turns", "prompt"):
            if not given:
                self.fault(field, "is an empty list")
            places = (f"{field}[{place}]" for place in range(len(given)))
            spoken = [self.spoken(*each) for each in zip(places, given, strict=True)]
            return spoken or [Message("user", "")]
        if field == "instruction" and isinstance(given, str):
            more = value.get("input")
            if more is not None and not isinstance(more, str):
                self.fault("input", "is not text", _short(more))
            elif more:
                given = f"{given}\n\n{more}"
        return [self.spoken(field, given)]

    def spoken(self, field: str, text: Any) -> Message:
        if not isinstance(text, str):
            self.fault(field, "is not text", _short(text))
        elif not text.strip():
            self.fault(field, "is empty")
        return Message("user", text if isinstance(text, str) else "")

    def before_the_last_answer(self, value: dict[str, Any]) -> list[Message]:
        """What `finetune` reads as a conversation; one that ends with a question has no answer
        yet, so it is given one here, and nothing is asked of answers."""
        row = {name: each for name, each in value.items() if name not in ("reward", "condition")}
        row["weight"] = 0  # an answer may be empty then
        for field in (*_LISTS, "turns"):
            turns = row.get(field)
            last = turns[-1] if isinstance(turns, list) and turns else None
            if isinstance(last, dict) and says_who(last) == "user":
                row[field] = [*row[field], {"role": "assistant", "content": ""}]
        if "instruction" in row:
            row.setdefault("output", "")
        example = read_example(Line(self.line, row))
        if not isinstance(example, Example):
            self.faults += example
            return []
        turns = [*example.messages]
        while turns and turns[-1].role != "assistant":
            turns.pop()
        turns = turns[:-1]
        if not turns or turns[-1].role != "user":
            self.fault("", "has no user's turn before its last answer, so there is nothing to ask")
        elif not turns[-1].content.strip():
            self.fault("", "asks nothing: the user's turn before its last answer is empty")
        return turns

    def name(self, value: dict[str, Any]) -> str:
        for field in ("question_id", "prompt_id", "id"):
            given = value.get(field)
            if given is None:
                continue
            if isinstance(given, str | int) and not isinstance(given, bool):
                return str(given)
            self.fault(field, "is neither a number nor text", _short(given))
        return ""

    def category(self, value: dict[str, Any]) -> str:
        for field in ("category", "dataset"):
            given = value.get(field)
            if isinstance(given, str):
                return given.strip()
            if given is not None:
                self.fault(field, "is not text", _short(given))
        return ""

    def references(self, value: dict[str, Any]) -> list[str]:
        given = value.get("reference")
        if given in (None, "", []):
            return []
        listed = given if isinstance(given, list) else [given]
        if all(isinstance(each, str) for each in listed):
            return listed
        self.fault("reference", "is neither text nor a list of texts", _short(given))
        return []

    def fault(self, field: str, kind: str, detail: str = "") -> None:
        self.faults.append(Fault(self.line, field, kind, detail))


def _characters(text: str) -> str:
    """`text` as it can be written: JSON may hold half a character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str | float) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
