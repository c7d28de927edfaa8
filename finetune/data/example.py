"""One conversation as data give it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from openchat_local.models.conversation import Message

UNLABELLED = "unlabelled"  # the class of conversations that name none


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation of a row; `part` counts those of a row that holds several, from 0.

    `format` says what the row was taken for. `weights` has one entry a message, None where the
    message has none of its own; `reward` is the conversation's own, `score` the number that it
    comes from, and `condition` the text that the row gives, which is "" where it says that there
    is none and None where it says nothing. `ignored` names the fields that none of this was made
    of, `remarks` are keys of `remarks.SENTENCES`: what was read otherwise than it is written.

    `messages` have calls of tools, and what came back, as text. Where they are in a form that a
    template may know, `calling` are the turns with them and `calling_weights` theirs; `tools` is
    a JSON list of what is declared, "" for nothing.
    """

    line: int
    format: str
    messages: tuple[Message, ...]
    weights: tuple[float | None, ...]
    class_name: str = UNLABELLED
    condition: str | None = None
    reward: float | None = None
    ignored: tuple[str, ...] = ()
    part: int = 0
    score: float | None = None
    remarks: tuple[str, ...] = ()
    calling: tuple[Message, ...] = ()
    calling_weights: tuple[float | None, ...] = ()
    tools: str = ""

    @property
    def place(self) -> tuple[int, int]:
        """Tells it from all others of its file."""
        return self.line, self.part

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

    def as_calls(self) -> Example:
        """The same with calls of tools as such, for a template that knows them."""
        return replace(self, messages=self.calling, weights=self.calling_weights)

    def as_row(self) -> dict[str, Any]:
        """The same as a row of OpenAI messages, which is read as this example again."""
        turns = []
        for message, weight in zip(self.messages, self.weights, strict=True):
            own = {} if weight is None else {"weight": weight}
            turns.append({"role": message.role, "content": message.content, **own})
        said: dict[str, Any] = {"messages": turns}
        if self.class_name != UNLABELLED:
            said["class"] = self.class_name
        if self.condition is not None:
            said["condition"] = self.condition
        if self.reward is not None:
            said["reward"] = self.reward
        return said
