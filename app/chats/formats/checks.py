"""What fields of an imported file may hold, and faults with their places."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from openchat_local.app.chats.records import REPLY_ENDS
from openchat_local.app.chats.writing import is_tag
from openchat_local.models.conversation import ROLES

Faults = list[str]


class Check(NamedTuple):
    """A test of a value and, for the fault, what it should have been."""

    accepts: Callable[[Any], bool]
    expected: str

    def or_null(self) -> Check:
        return Check(lambda value: value is None or self.accepts(value), f"{self.expected} or null")


def is_text(value: object) -> bool:
    """Whether it is a string that UTF-8 can hold: no half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def one_of(*values: str | int) -> Check:
    listed = ", ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values)
    # By type too: JSON's true is not 1.
    accepted = {(type(value), value) for value in values}
    return Check(
        lambda value: isinstance(value, str | int) and (type(value), value) in accepted,
        f"one of {listed}",
    )


def _is_time(value: object) -> bool:
    # Beyond 1e11 (the year 5138) it is milliseconds; NaN compares as false.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e11


def _is_tag(value: object) -> bool:
    return isinstance(value, str) and is_text(value) and is_tag(value)


def _is_token_id(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


TEXT = Check(is_text, "text (a string without lone surrogates)")
FLAG = Check(lambda value: isinstance(value, bool), "true or false")
TABLE = Check(lambda value: isinstance(value, dict), "an object")
TIME = Check(_is_time, "a time in seconds since 1970")
TAGS = Check(lambda value: isinstance(value, list) and all(map(_is_tag, value)), "a list of tags")
TOKEN_IDS = Check(
    lambda value: isinstance(value, list) and all(map(_is_token_id, value)), "a list of token ids"
)
ROLE = one_of(*ROLES)

CHAT_FIELDS: Mapping[str, Check] = {
    "id": TEXT,
    "title": TEXT,
    "created_at": TIME,
    "updated_at": TIME,
    "model": TEXT.or_null(),
    "template": TEXT.or_null(),
    "adapter": TEXT.or_null(),
    "condition": TEXT.or_null(),
    "system_prompt": TEXT,
    "sampling": TABLE.or_null(),
    "private": FLAG,
    "pinned": FLAG,
    "draft": TEXT,
    "leaf_id": TEXT.or_null(),
    "tags": TAGS,
    "origin": TEXT.or_null(),
}
MESSAGE_FIELDS: Mapping[str, Check] = {
    "id": TEXT,
    "parent_id": TEXT.or_null(),
    "role": ROLE,
    "content": TEXT,
    "created_at": TIME,
    "finish_reason": one_of(*REPLY_ENDS).or_null(),
    "model": TEXT.or_null(),
    "adapter": TEXT.or_null(),
    "condition": TEXT.or_null(),
    "template": TEXT.or_null(),
    "sampling": TABLE.or_null(),
    "usage": TABLE.or_null(),
    "rating": one_of(1, -1).or_null(),
    "rating_reason": TEXT.or_null(),
    "edited": FLAG,
    "token_ids": TOKEN_IDS.or_null(),
    "vocabulary": TEXT.or_null(),
}


def check_fields(
    value: object, fields: Mapping[str, Check], required: set[str], place: str, faults: Faults
) -> dict[str, Any]:
    """The fields of `value` that are right; every fault goes to `faults` with its place.

    A field that is not known is a fault: to drop it silently would lose data.
    """
    if not isinstance(value, dict):
        faults.append(f"{place or 'the file'} is not an object")
        return {}
    missing = [name for name in fields if name in required and name not in value]
    faults += [f"{at(place, name)} is missing" for name in missing]
    good = {}
    for name, content in value.items():
        if name not in fields:
            faults.append(f"{at(place, name)} is not a known field")
        elif not fields[name].accepts(content):
            faults.append(f"{at(place, name)} is not {fields[name].expected}")
        else:
            good[name] = content
    return good


def at(place: str, name: str) -> str:
    """The place of a field: "line 3, " and "title" → "line 3, title"."""
    return f"{place}.{name}" if place and not place.endswith(" ") else f"{place}{name}"
