"""What a line says: five formats, told apart by their fields, to one kind of example.

OpenChat      {"items": [{"role", "content", "weight"}], "condition", "system"}
OpenAI        {"messages": [{"role", "content", "weight"}]}
ShareGPT      {"conversations": [{"from", "value"}]}
Alpaca        {"instruction", "input", "output", "history"}
completion    {"prompt", "completion"}

Each may have "class", "condition", "reward", "weight" (the same as a reward) and "system".
Other fields are counted and named, and mean nothing here.
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
_EMPTY = 'is empty, and the model would learn to say nothing: give it text, or "weight": 0'

# What a conversation may have in every format, and a turn.
_COMMON = frozenset({"class", "condition", "reward", "weight", "system"})
_TURN = frozenset({"role", "from", "content", "value", "weight", "train", "loss"})
# Whether an answer was liked: the class, where nothing else says one (true and false).
_VERDICTS = ("label", "kto_tag")
_CALLS = ("tool_calls", "function_call")
MOST_WEIGHT = 100.0  # more is rather grams


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation as a line gives it.

    `weights` has one entry a message, None where the message has none of its own;
    `reward` is the conversation's own, and `condition` the text that the line gives, which
    is "" where it says that there is none and None where it says nothing. `ignored` names
    the fields that none of this was made of.
    """

    line: int
    format: Format
    messages: tuple[Message, ...]
    weights: tuple[float | None, ...]
    class_name: str = UNLABELLED
    condition: str | None = None
    reward: float | None = None
    ignored: tuple[str, ...] = ()

    def reply_weights(self) -> list[float | None]:
        """Of every assistant turn, in order, what `own_weight` says."""
        turns = enumerate(self.messages)
        return [self.own_weight(index) for index, turn in turns if turn.role == "assistant"]

    @property
    def system_prompt(self) -> str:
        """What stands before the first other turn; "" without a system turn."""
        first = self.messages[:1]
        return first[0].content if first and first[0].role == "system" else ""

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
        self.read: set[str] = {*_COMMON}
        self.ignored: dict[str, None] = {}

    def example(self, value: Any, class_field: str | None) -> Example:
        if not isinstance(value, dict):
            self.fault("", "is not a JSON object", _short(value))
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
            (*(field for field in value if field not in self.read), *self.ignored),
        )
        if not self.faults and all(message.role != "assistant" for message in example.messages):
            self.fault("", "has no assistant turn, so there is nothing to learn from it")
        return example

    def turns(self, value: dict[str, Any]) -> tuple[Format, list[tuple[Message, float | None]]]:
        if "chosen" in value and "rejected" in value:
            self.fault(
                "chosen",
                "stands beside rejected, but one answer a line is needed: write each as a "
                "conversation of its own, with a class",
            )
            return "OpenAI messages", []
        for field, format in _LISTS.items():
            if field in value:
                self.read.add(field)
                return format, list(self.listed(value, field))
        if "instruction" in value:
            self.read |= {"instruction", "input", "output", "history"}
            question = self.text(value, "instruction")
            extra = self.text(value, "input", required=False)
            asked = f"{question}\n\n{extra}" if extra else question
            return "Alpaca", [*self.history(value), *self.exchange(value, asked, "output")]
        if "prompt" not in value and "completion" not in value:
            known = "items, messages, conversations, instruction and output, prompt and completion"
            self.fault("", f"holds no conversation in a form known here: {known}")
            return "OpenAI messages", []
        self.read |= {"prompt", "completion"}
        asked = self.text(value, "prompt")
        return "prompt/completion", [*self.exchange(value, asked, "completion")]

    def exchange(
        self, value: dict[str, Any], question: str | None, field: str
    ) -> Iterator[tuple[Message, float | None]]:
        yield Message("user", question or ""), None
        answer = self.text(value, field)
        if answer is not None and not answer.strip() and not self.silent(value):
            self.fault(field, _EMPTY)
        yield Message("assistant", answer or ""), None

    def history(self, value: dict[str, Any]) -> Iterator[tuple[Message, float | None]]:
        """Alpaca's earlier turns: pairs of a question and its answer."""
        pairs = value.get("history")
        if pairs in (None, ""):
            return
        if not isinstance(pairs, list):
            self.fault("history", "is not a list of pairs", _short(pairs))
            return
        for index, pair in enumerate(pairs):
            place = f"history[{index}]"
            if not (isinstance(pair, list) and len(pair) == 2 and all(_is_text(t) for t in pair)):
                self.fault(place, "is not a pair of a question and its answer", _short(pair))
                continue
            question, answer = pair
            if not answer.strip() and not self.silent(value):
                self.fault(f"{place}[1]", _EMPTY)
            yield Message("user", question), None
            yield Message("assistant", answer), None

    def listed(self, value: dict[str, Any], field: str) -> Iterator[tuple[Message, float | None]]:
        turns = value[field]
        if not isinstance(turns, list):
            self.fault(field, "is not a list of turns", _short(turns))
            return
        for index, turn in enumerate(turns):
            place = f"{field}[{index}]"
            if not isinstance(turn, dict):
                self.fault(place, "is not a JSON object", _short(turn))
                continue
            # ShareGPT's names under OpenAI's heading, and the reverse, are common.
            role_field = "from" if "from" in turn and "role" not in turn else "role"
            text_field = "value" if "value" in turn and "content" not in turn else "content"
            role = self.role(turn, role_field, f"{place}.")
            call = next((name for name in _CALLS if turn.get(name)), None)
            if call and not turn.get(text_field):
                self.fault(f"{place}.{call}", "stands in place of text, and calls are not learned")
                continue
            text = self.text(turn, text_field, f"{place}.")
            weight = self.weight(turn, role, f"{place}.")
            taught = weight != 0 and not (weight is None and self.silent(value))
            if role == "assistant" and taught and text is not None and not text.strip():
                self.fault(f"{place}.{text_field}", _EMPTY)
            self.ignored |= {f"{field}[].{name}": None for name in turn if name not in _TURN}
            yield Message(role, text or ""), weight

    def weight(self, turn: dict[str, Any], role: Role, place: str) -> float | None:
        """The own weight of a turn; "train" and "loss" are how others write a weight of 0."""
        weight = self.number(turn, "weight", place, MOST_WEIGHT)
        if role != "assistant":
            if weight:
                self.fault(
                    f"{place}weight", "is not 0, and only assistant turns are learned", str(weight)
                )
            return weight
        for field in ("train", "loss"):
            if turn.get(field) is False:
                if weight:
                    self.fault(place + field, "is false, and weight is not 0", str(weight))
                weight = 0.0
        return weight

    def silent(self, value: dict[str, Any]) -> bool:
        """Whether the line says that nothing of it is to be learned."""
        return any(value.get(field) in (0, 0.0) and value.get(field) is not False
                   for field in ("reward", "weight"))  # fmt: skip

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

    def number(
        self, value: dict[str, Any], field: str, place: str = "", most: float = 1e6
    ) -> float | None:
        number = value.get(field)
        if number is None:
            return None
        if isinstance(number, bool) or not isinstance(number, int | float):
            self.fault(place + field, "is not a number", _short(number))
            return None
        if not (0 <= number <= 1e6 and math.isfinite(number)):
            self.fault(place + field, "is not a number from 0 to 1,000,000", _short(number))
            return None
        if number > most:
            self.fault(
                place + field,
                f"is above {most:g}: if it is how much the answer counts, divide all of them; if "
                "it is something else, give the field another name",
                _short(number),
            )
        return float(number)

    def reward(self, value: dict[str, Any]) -> float | None:
        reward = self.number(value, "reward")
        weight = self.number(value, "weight", most=MOST_WEIGHT if reward is None else 1e6)
        if reward is not None and weight is not None and reward != weight:
            self.fault("reward", "is not what weight says, and both mean the same")
        return weight if reward is None else reward

    def class_name(
        self, value: dict[str, Any], class_field: str | None, condition: str | None
    ) -> str:
        field = class_field or "class"
        if class_field is None and value.get("class") is None and not condition:
            field = next((verdict for verdict in _VERDICTS if verdict in value
                          and isinstance(value[verdict], bool)), field)  # fmt: skip
        self.read.add(field)
        name = value.get(field)
        if class_field is not None and class_field not in value:
            self.fault(class_field, "is missing, and --class-field names it")
        if name is None:
            name = condition
        elif isinstance(name, bool | int):
            name = str(name).lower()
        elif not isinstance(name, str):
            self.fault(field, _NOT_TEXT, _short(name))
            return UNLABELLED
        return (name or "").strip() or UNLABELLED

    def fault(self, field: str, kind: str, detail: str = "") -> None:
        self.faults.append(Fault(self.line, field, kind, detail))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _short(value: Any) -> str:
    # repr leaves every script readable and escapes what a terminal would obey.
    text = repr(value) if isinstance(value, str | float) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
