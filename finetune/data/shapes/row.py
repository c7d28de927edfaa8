"""One row while it is read: its fields, and everything that is wrong with them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from openchat_local.finetune.data.faults import Fault
from openchat_local.models.conversation import Message

Turn = tuple[Message, float | None]
"""A message and its own weight."""

MOST_WEIGHT = 100.0  # more is rather grams
NOT_TEXT = "is not text"
MISSING = "is missing"
EMPTY = 'is empty, and the model would learn to say nothing: give it text, or "weight": 0'


class Row:
    """The fields of a row and what was found in them; what is read of it is only good without
    `faults`. `used` names the fields that something was made of, `ignored` parts of fields that
    nothing was, `remarks` what was read otherwise than it is written."""

    def __init__(self, line: int, value: Mapping[str, Any]) -> None:
        self.line = line
        self.value = value
        self.faults: list[Fault] = []
        self.used: set[str] = set()
        self.ignored: dict[str, None] = {}
        self.remarks: dict[str, None] = {}

    def fault(self, field: str, kind: str, detail: str = "") -> None:
        """Note what is wrong with a field."""
        self.faults.append(Fault(self.line, field, kind, detail))

    def text(self, field: str, *, required: bool = True) -> str | None:
        """The text of a field of the row; None, and a fault, where it is none."""
        self.used.add(field)
        return self.text_in(self.value, field, required=required)

    def text_in(
        self, value: Mapping[str, Any], field: str, place: str = "", *, required: bool = True
    ) -> str | None:
        """The same for an object inside the row, which stands at `place`."""
        text = value.get(field)
        if text is None and field not in value and required:
            self.fault(place + field, MISSING)
        elif not isinstance(text, str) and (required or text is not None):
            self.fault(place + field, NOT_TEXT, short(text))
        return text if isinstance(text, str) else None

    def number_in(
        self, value: Mapping[str, Any], field: str, place: str = "", most: float = 1e6
    ) -> float | None:
        """The weight or reward in a field; None where there is none, or it is none."""
        number = value.get(field)
        if number is None:
            return None
        if isinstance(number, bool) or not isinstance(number, int | float):
            self.fault(place + field, "is not a number", short(number))
            return None
        if not (0 <= number <= 1e6 and math.isfinite(number)):
            self.fault(place + field, "is not a number from 0 to 1,000,000", short(number))
            return None
        if number > most:
            self.fault(
                place + field,
                f"is above {most:g}: if it is how much the answer counts, divide all of them; if "
                "it is something else, give the field another name",
                short(number),
            )
        return float(number)

    def silent(self) -> bool:
        """Whether the row says that nothing of it is to be learned."""
        given = (self.value.get(field) for field in ("reward", "weight"))
        return any(isinstance(n, int | float) and n is not False and n == 0 for n in given)

    def answer(self, field: str, text: str | None, weight: float | None = None) -> Turn:
        """An assistant's turn of this text, which may only be empty where it is not learned."""
        is_context = weight == 0 or (weight is None and self.silent())
        if text is not None and not text.strip() and not is_context:
            self.fault(field, EMPTY)
        return Message("assistant", text or ""), weight


def short(value: Any) -> str:
    """A value in at most 40 characters, every script readable and nothing in it that a terminal
    would obey."""
    if isinstance(value, str):
        text = repr(value[:41])
    else:
        text = repr(value) if isinstance(value, float) else json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."
