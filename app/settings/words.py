"""What a setting may be, in the words of a person and not of a validator."""

from __future__ import annotations

from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Key = tuple[str, ...]
"""The path of a setting: ("sampling", "temperature")."""


def allowed(section: type[BaseModel], key: Key) -> str | None:
    """What the setting at `key` may be: "a number from 0 to 10"; None for a section of settings
    and for a key that does not exist."""
    field = section.model_fields.get(key[0]) if key else None
    if field is None:
        return None
    kind, rest = _kind(field.annotation), key[1:]
    if get_origin(kind) is dict:
        kind, rest = _kind(get_args(kind)[1]), rest[1:]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return allowed(kind, rest)
    return _words(kind, _bounds(field))


def is_section(section: type[BaseModel], key: Key) -> bool:
    """Whether `key` is a table of settings, and no single one."""
    kind: Any = section
    for part in key:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
            kind = _kind(kind.model_fields[part].annotation)
        elif get_origin(kind) is dict:
            kind = _kind(get_args(kind)[1])
        else:
            return False
    return get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel))


def shown(value: object) -> str:
    """A value as it is written in the settings file."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _kind(annotation: Any) -> Any:
    """The type, without the None that an unset value is."""
    if get_origin(annotation) in (Union, UnionType):
        return next(each for each in get_args(annotation) if each is not type(None))
    return annotation


def _bounds(field: FieldInfo) -> dict[str, Any]:
    names = ("ge", "gt", "le", "lt", "min_length")
    return {
        name: getattr(limit, name)
        for limit in field.metadata
        for name in names
        if getattr(limit, name, None) is not None
    }


def _words(kind: Any, bounds: dict[str, Any]) -> str | None:
    if get_origin(kind) is Literal:
        return " or ".join(map(shown, get_args(kind)))
    if kind is bool:
        return "true or false"
    if kind is str:
        return "a text that is not empty" if bounds.get("min_length") else "a text"
    if kind not in (int, float):
        return None
    least, most = _least(bounds), _most(bounds, whole=kind is int)
    words = "a whole number" if kind is int else "a number"
    if least and most:
        return f"{words} {least} {most}"
    return f"{words} {least} upwards" if least else words


def _least(bounds: dict[str, Any]) -> str:
    if "gt" in bounds:
        return f"above {_number(bounds['gt'])}"
    return f"from {_number(bounds['ge'])}" if "ge" in bounds else ""


def _most(bounds: dict[str, Any], *, whole: bool) -> str:
    if "lt" in bounds and whole:
        return f"to {_number(bounds['lt'] - 1)}"
    if "lt" in bounds:
        return f"and below {_number(bounds['lt'])}"
    return (
        f"{'and up ' if 'gt' in bounds else ''}to {_number(bounds['le'])}" if "le" in bounds else ""
    )


def _number(value: float) -> str:
    return f"{value:,.12g}"
