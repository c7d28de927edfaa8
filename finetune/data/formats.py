"""What a line says: five formats, told apart by their fields, to one kind of example.

OpenChat      {"items": [{"role", "content", "weight"}], "condition", "system"}
OpenAI        {"messages": [{"role", "content", "weight"}]}
ShareGPT      {"conversations": [{"from", "value"}]}
Alpaca        {"instruction", "input", "output"}
completion    {"prompt", "completion"}

Each may have "class", "condition", "reward", "weight" (the same as a reward) and "system".
Other fields are the user's own and mean nothing here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from openchat_local.finetune.data.faults import Fault
from openchat_local.finetune.data.lines import Line
from openchat_local.models.conversation import Message, Role

Format = Literal["OpenChat", "OpenAI messages", "ShareGPT", "Alpaca", "prompt/completion"]
UNLABELLED = "unlabelled"  # the class of conversations that name none

_LISTS: dict[str, Format] = {
    "items": "OpenChat",
    "messages": "OpenAI messages",
    "conversations": "ShareGPT",
}
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
}
_NOT_TEXT = "is not text"
_MISSING = "is missing"


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation as a line gives it.

    `weights` has one entry a message, None where the message has none of its own;
    `reward` is the conversation's own, and `condition` the text that the line gives, which
    is "" where it says that there is none and None where it says nothing.
    """

    line: int
    format: Format
    messages: tuple[Message, ...]
    weights: tuple[float | None, ...]
    class_name: str = UNLABELLED
    condition: str | None = None
    reward: float | None = None

    def own_weight(self, message: int) -> float | None:
        """The weight of a message unless its class decides it: its own, or the
        conversation's reward."""
        weight = self.weights[message]
        return self.reward if weight is None else weight


def read_example(line: Line, class_field: str | None = None) -> Example | list[Fault]:
    """The conversation of a line, or everything that is wrong with it.

    `class_field` names the field that holds the class, instead of "class" or "condition".
    """
    reader = _Reader(line.number)
    example = reader.example(line.value, class_field)
    return reader.faults or example


class _Reader:
    """Reads one line and collects its faults; what it returns is only good without any."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.faults: list[Fault] = []

    def example(self, value: Any, class_field: str | None) -> Example:
        if not isinstance(value, dict):
            self.fault("", "is no JSON object", _short(value))
            value = {"messages": []}
        format, turns = self.turns(value)
        system = self.text(value, "system", required=False)
        if system:
            turns = [(Message("system", system), None), *turns]
        condition = self.text(value, "condition", required=False)
        example = Example(
            self.line,
            format,
            tuple(message for message, _ in turns),
            tuple(weight for _, weight in turns),
            self.class_name(value, class_field, condition),
            None if condition is None else condition.strip(),
            self.reward(value),
        )
        if not self.faults and all(message.role != "assistant" for message in example.messages):
            self.fault("", "has no assistant turn, so there is nothing to learn from it")
        return example

    def turns(self, value: dict[str, Any]) -> tuple[Format, list[tuple[Message, float | None]]]:
        for field, format in _LISTS.items():
            if field in value:
                return format, list(self.listed(value[field], field))
        if "instruction" in value:
            question = self.text(value, "instruction")
            extra = self.text(value, "input", required=False)
            return "Alpaca", _exchange(f"{question}\n\n{extra}" if extra else question,
                                       self.text(value, "output"))  # fmt: skip
        if "prompt" not in value and "completion" not in value:
            known = "items, messages, conversations, instruction and output, prompt and completion"
            self.fault("", f"holds no conversation in a form known here: {known}")
            return "OpenAI messages", []
        return "prompt/completion", _exchange(
            self.text(value, "prompt"), self.text(value, "completion")
        )

    def listed(self, value: Any, field: str) -> Iterator[tuple[Message, float | None]]:
        if not isinstance(value, list):
            self.fault(field, "is not a list of turns", _short(value))
            return
        for index, turn in enumerate(value):
            place = f"{field}[{index}]"
            if not isinstance(turn, dict):
                self.fault(place, "is no JSON object", _short(turn))
                continue
            # ShareGPT's names under OpenAI's heading, and the reverse, are common.
            role_field = "from" if "from" in turn and "role" not in turn else "role"
            text_field = "value" if "value" in turn and "content" not in turn else "content"
            role = self.role(turn, role_field, f"{place}.")
            text = self.text(turn, text_field, f"{place}.")
            weight = self.number(turn, "weight", f"{place}.")
            if role != "assistant" and weight:
                self.fault(
                    f"{place}.weight", "is not 0, and only assistant turns are learned", str(weight)
                )
            yield Message(role, text or ""), weight

    def role(self, turn: dict[str, Any], field: str, place: str) -> Role:
        value = turn.get(field)
        role = _ROLES.get(value.strip().lower()) if isinstance(value, str) else None
        if role is None:
            given = (_short(value),) if field in turn else ()
            known = f"is none of the roles {', '.join(_ROLES)}"
            self.fault(place + field, known if given else _MISSING, *given)
        return role or "assistant"

    def text(
        self, value: dict[str, Any], field: str, place: str = "", *, required: bool = True
    ) -> str | None:
        text = value.get(field)
        if text is None and field not in value and required:
            self.fault(place + field, _MISSING)
        elif not isinstance(text, str) and (required or text is not None):
            self.fault(place + field, _NOT_TEXT, _short(text))
        return text if isinstance(text, str) else None

    def number(self, value: dict[str, Any], field: str, place: str = "") -> float | None:
        number = value.get(field)
        if number is None:
            return None
        if isinstance(number, bool) or not isinstance(number, int | float):
            self.fault(place + field, "is not a number", _short(number))
            return None
        if not (0 <= number <= 1e6 and math.isfinite(number)):
            self.fault(place + field, "is not a number from 0 to 1,000,000", _short(number))
            return None
        return float(number)

    def reward(self, value: dict[str, Any]) -> float | None:
        reward, weight = self.number(value, "reward"), self.number(value, "weight")
        if reward is not None and weight is not None and reward != weight:
            self.fault("reward", "is not what weight says, and both mean the same")
        return weight if reward is None else reward

    def class_name(
        self, value: dict[str, Any], class_field: str | None, condition: str | None
    ) -> str:
        if class_field is not None:
            name = value.get(class_field)
            if class_field not in value:
                self.fault(class_field, "is missing, and --class-field names it")
        else:
            name = value.get("class")
        if name is None:
            name = condition
        elif isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        elif not isinstance(name, str):
            self.fault(class_field or "class", _NOT_TEXT, _short(name))
            return UNLABELLED
        return (name or "").strip() or UNLABELLED

    def fault(self, field: str, kind: str, detail: str = "") -> None:
        self.faults.append(Fault(self.line, field, kind, detail))


def _exchange(question: str | None, answer: str | None) -> list[tuple[Message, float | None]]:
    return [(Message("user", question or ""), None), (Message("assistant", answer or ""), None)]


def _short(value: Any) -> str:
    # repr leaves every script readable and escapes what a terminal would obey.
    text = repr(value) if isinstance(value, str | float) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
