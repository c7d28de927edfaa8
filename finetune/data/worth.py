"""Of what class a conversation is, and what it is worth by its own fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openchat_local.finetune.data.example import UNLABELLED
from openchat_local.finetune.data.numbers import as_number
from openchat_local.finetune.data.reading import Reading
from openchat_local.finetune.data.shapes.found import Found
from openchat_local.finetune.data.shapes.preferences import SIDES
from openchat_local.finetune.data.shapes.row import MOST_WEIGHT, NOT_TEXT, Row, short

VERDICTS = ("label", "kto_tag")
"""Whether an answer was liked: the class, where nothing else says one."""
LIKED = {True: "desirable", False: "undesirable"}  # as KTO calls them (arXiv 2402.01306)

# What others call how good an answer is, as a number.
SCORES = frozenset({"score", "rating", "overall_score", "helpfulness", "quality", "rank", "stars"})
_ABSENT = object()


def field_names(field: str) -> Iterator[str]:
    """Under which names of a row the value of a field may stand: of a preference, each answer
    has its own, such as `score_chosen` or `chosen-rating`."""
    yield field
    yield field.partition(".")[0]
    for side in SIDES:
        yield from _sided(field, side)


def _sided(field: str, side: str) -> tuple[str, ...]:
    return f"{side}_{field}", f"{field}_{side}", f"{side}-{field}", f"{field}-{side}"


def class_of(row: Row, found: Found, reading: Reading, condition: str | None) -> str:
    """The class of a conversation."""
    field = reading.class_field
    if field is not None:
        value = _value(row, found, field)
        if value is _ABSENT and field not in row.value:
            row.fault(field, "is missing, and --class-field names it")
            return UNLABELLED
        value = None if value is _ABSENT else value
        if reading.classes is not None:
            return _class_by_number(row, field, value, reading)
        return _name(row, field, value, condition)
    if found.side:
        return found.side
    value = found.about.get("class", row.value.get("class"))
    if value is None and not condition:
        for verdict in VERDICTS:
            if isinstance(row.value.get(verdict), bool):
                row.used.add(verdict)
                return LIKED[row.value[verdict]]
    return _name(row, "class", value, condition)


def _name(row: Row, field: str, value: Any, condition: str | None) -> str:
    if value is None:
        value = condition
    elif isinstance(value, bool | int):
        value = str(value).lower()
    elif isinstance(value, float) and value.is_integer():
        value = f"{value:g}"
    elif not isinstance(value, str):
        row.fault(field, NOT_TEXT, short(value))
        return UNLABELLED
    return (value or "").strip() or UNLABELLED


def _class_by_number(row: Row, field: str, value: Any, reading: Reading) -> str:
    number = as_number(value)
    if number is None:
        row.fault(field, "is not a number, and --classes parts numbers", short(value))
        return UNLABELLED
    assert reading.classes is not None
    name = reading.classes.class_of(number)
    if name is None:
        row.fault(field, "is in none of the --classes: name one for the rest", f"{number:g}")
    return name or UNLABELLED


def worth_of(row: Row, found: Found, reading: Reading) -> tuple[float | None, float | None]:
    """The reward of a conversation, and the score that it comes from; None where there is none."""
    if reading.reward_field is None:
        return (None if found.side else _given_reward(row, found)), None
    field = reading.reward_field
    value = _value(row, found, field)
    if value is _ABSENT:
        row.fault(field, "is missing, and --reward-field names it")
        return None, None
    score = as_number(value)
    if score is None:
        row.fault(field, "is not a number, and --reward-field names it", short(value))
        return None, None
    reward = reading.reward(score)
    if reward is not None and not 0 <= reward <= 1e6:
        row.fault(
            field, "is worth less than 0 or more than 1,000,000 by --reward-map", f"{score:g}"
        )
        return None, score
    return reward, score


def _given_reward(row: Row, found: Found) -> float | None:
    value = {**row.value, **found.about} if found.about else row.value
    reward = row.number_in(value, "reward")
    weight = row.number_in(value, "weight", most=MOST_WEIGHT if reward is None else 1e6)
    if reward is not None and weight is not None and reward != weight:
        row.fault("reward", "is not what weight says, and both mean the same")
    return weight if reward is None else reward


def _value(row: Row, found: Found, field: str) -> Any:
    """What a field holds: of this answer, or else of the row. `a.b` is b in the object a."""
    for value in (found.about, row.value):
        names = (*(_sided(field, found.side) if found.side else ()), field)
        for name in names:
            if value.get(name) is not None:
                row.ignored.pop(f"completions[].{name}", None)
                row.used |= {*field_names(field)}
                return value[name]
        inner: Any = value
        for name in field.split("."):
            inner = inner.get(name) if isinstance(inner, dict) else None
        if inner is not None:
            row.used.add(field.partition(".")[0])
            return inner
    return _ABSENT
