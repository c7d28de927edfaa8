"""Settings as they are shown and changed one by one in the window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from openchat_local.app.paths import config_path
from openchat_local.app.settings.file import write_setting
from openchat_local.app.settings.layers import Layer, leaves, merge, nested
from openchat_local.app.settings.model import Settings, load_settings_forgivingly
from openchat_local.app.settings.words import Key

AT_ONCE = frozenset(
    {"tui", "sampling", "condition", "system_prompt", "context_overflow", "learning"}
)
"""What holds from the next reply or the next chat on; the rest needs a new start."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force. `choices` are its values where those can be counted;
    `source` is where the value comes from: "default", "file", or what beats the file."""

    key: Key
    value: object
    source: str
    description: str
    choices: tuple[object, ...]

    @property
    def name(self) -> str:
        """The dotted key, as in the file."""
        return ".".join(self.key)

    @property
    def at_once(self) -> bool:
        """Whether a change holds without a new start of the program."""
        return self.key[0] in AT_ONCE


def all_settings(now: Settings, sources: Mapping[str, str]) -> list[Setting]:
    """Every single setting with its value in `now`, those of the window first; sections of
    the user's own names, keys and presets, are left to the file."""
    values = now.model_dump()
    found = [
        Setting(key, _at(values, key), sources.get(".".join(key), "default"), *_described(key))
        for key, _ in leaves(Settings().model_dump())
    ]
    return sorted(found, key=lambda setting: setting.key[0] != "tui")


def change_setting(now: Settings, key: Key, text: str) -> Settings:
    """Write what a person wrote for a setting into the file, and return the settings as
    they are then. An empty text removes it from the file: the default holds.

    Raises SettingsError for a value that is not allowed, and where the file is at fault.
    """
    value: object = _at(Settings().model_dump(), key)
    if text:
        edit = _Edit(key, text)
        edit.validate(Settings)
        value = _at(Settings(**edit.values).model_dump(), key)
    write_setting(config_path(), key, value if text else None)
    changed = now.model_dump(exclude_unset=True)
    merge(changed, nested(key, value))
    return Settings(**changed)


def overridden(key: Key, value: object) -> bool:
    """Whether something beats the file, so that its `value` will not hold at the next start."""
    now, _ = load_settings_forgivingly()
    return bool(_at(now.model_dump(), key) != value)


class _Edit(Layer):
    """A single value, written by hand."""

    name = "edit"

    def __init__(self, key: Key, text: str) -> None:
        self.values = nested(key, text)

    def where(self, key: Key) -> str:
        return ".".join(key)


_MISSING = object()


def _at(values: Mapping[str, Any], key: Key) -> object:
    value: Any = values
    for part in key:
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _described(key: Key) -> tuple[str, tuple[object, ...]]:
    """The sentence that documents a setting, and its values where they can be counted."""
    section: type[BaseModel] = Settings
    for part in key[:-1]:
        annotation = section.model_fields[part].annotation
        assert isinstance(annotation, type)
        section = annotation
    field = section.model_fields[key[-1]]
    return field.description or "", _choices(field.annotation)


def _choices(annotation: Any) -> tuple[object, ...]:
    if annotation is bool:
        return (True, False)
    return get_args(annotation) if get_origin(annotation) is Literal else ()
