"""The sources that settings come from, and how each describes a fault of its own:
by the line of the file, by the variable, by the flag. (pydantic-settings merges its sources
first, and can no longer say which of them is at fault.)
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from pydantic import BaseModel, ValidationError

from openchat_local.app.settings.words import Key, allowed, is_section, shown
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ENV_PREFIX = "OPENCHAT_LOCAL_"
NOT_SETTINGS = frozenset({"HOME", "DEBUG", "OFFLINE", "API_KEY"})
"""Variables with our prefix that steer the program itself."""


class SettingsError(OpenChatError):
    """A setting is unknown or has a value that is not allowed."""


class Layer(ABC):
    """One source of settings. `values` are nested as the settings are."""

    name: ClassVar[str]
    values: dict[str, Any]

    @abstractmethod
    def where(self, key: Key) -> str:
        """Where in this source `key` is set, in words."""

    def validate(self, settings: type[BaseModel]) -> None:
        """Raise SettingsError for the first value here that is unknown or not allowed."""
        for _, problem in self._faults(settings):
            raise problem

    def _faults(self, settings: type[BaseModel]) -> Iterator[tuple[Key, SettingsError]]:
        try:
            settings(**self.values)
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                key = tuple(str(part) for part in fault["loc"])
                yield key, self._told(settings, key, fault)

    def _told(self, settings: type[BaseModel], key: Key, fault: ErrorDetails) -> SettingsError:
        if fault["type"] == "extra_forbidden":
            return _unknown(self.where(key), settings, key)
        if fault["type"] in {"model_type", "model_attributes_type", "dict_type"}:
            reason = "a section with keys of its own"
        else:
            reason = allowed(settings, key) or fault["msg"].removeprefix("Value error, ")
        return SettingsError(
            f"{self.where(key)} cannot be {shown(fault['input'])}: it is {reason}; "
            "correct or remove it."
        )


class FileLayer(Layer):
    """The TOML file at `path`; a file that is not there sets nothing."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = _read(path)
        try:
            self.values = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{path} is not valid TOML: {error}; correct it.") from None

    def drop_faults(self, settings: type[BaseModel]) -> list[str]:
        """Leave out what is unknown or not allowed; returns a sentence for each."""
        faults = list(self._faults(settings))
        for key, _ in faults:
            _drop(self.values, key)
        return [f"{problem} Until then it does not hold." for _, problem in faults]

    def where(self, key: Key) -> str:
        """The file, the line if it can be told, and the key."""
        return _place(self.path, self.text, key)


class EnvironmentLayer(Layer):
    """Variables such as ``OPENCHAT_LOCAL_SAMPLING__TEMPERATURE=0.2``; that of a section holds
    JSON."""

    name = "environment"

    def __init__(self, settings: type[BaseModel]) -> None:
        found: dict[Key, str] = {}
        for variable, text in os.environ.items():
            if not variable.upper().startswith(ENV_PREFIX):
                continue
            name = variable[len(ENV_PREFIX) :]
            if name.upper() in NOT_SETTINGS:
                continue
            key = tuple(name.lower().split("__"))
            if key[0] not in settings.model_fields:
                raise _unknown(variable, settings, key[:1])
            found[key] = text
        self.values = {}
        # Whole sections first, so that the variable of a single key comes before theirs.
        for key in sorted(found, key=len):
            value = self._section(key, found[key]) if is_section(settings, key) else found[key]
            merge(self.values, nested(key, value))

    def where(self, key: Key) -> str:
        """The variable's name."""
        return ENV_PREFIX + "__".join(key).upper()

    def _section(self, key: Key, text: str) -> dict[str, Any]:
        with suppress(json.JSONDecodeError, RecursionError):
            value = json.loads(text)
            if isinstance(value, dict):
                return value
        example = self.where(("sampling", "temperature"))
        raise SettingsError(
            f"{self.where(key)} cannot be {shown(text)}: it is a section with keys of its own, in "
            f"JSON; set one key each, like {example}=0.2."
        )


class FlagLayer(Layer):
    """Flags of the command line; those that are None were not given."""

    name = "flag"

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self.values = _given(flags)

    def where(self, key: Key) -> str:
        """The flag's name."""
        return "--" + key[-1].replace("_", "-")


def leaves(values: Mapping[str, Any], above: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Each value of a nested mapping with its path."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def nested(key: Key, value: object) -> dict[str, Any]:
    """`value` as the only one of a nested mapping, at `key`."""
    values: Any = value
    for part in reversed(key):
        values = {part: values}
    result: dict[str, Any] = values
    return result


def merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Let the values of `layer` replace those of `into`, key by key, in place."""
    for key, value in layer.items():
        if isinstance(value, Mapping):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            merge(into[key], value)
        else:
            into[key] = value


def place_of(path: Path, key: Key) -> str:
    """Where the settings file at `path` sets `key`, in words; the key alone where it does
    not, or cannot be read."""
    try:
        text = _read(path)
    except SettingsError:
        text = ""
    return _place(path, text, key) if line_of(text, key) else ".".join(key)


def _place(path: Path, text: str, key: Key) -> str:
    line = line_of(text, key)
    return f"{path}, {f'line {line}, ' if line else ''}{'.'.join(key)}"


def line_of(text: str, key: Key) -> int | None:
    """The line of a TOML text, from 1, that sets `key`; None where that cannot be told
    without a parser of one's own (`tomllib` keeps no positions).
    """
    key = tuple(part for name in key for part in name.split("."))  # "chat.new" is a key of one
    section: Key = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            section = _dotted(header[1])
            if section == key:
                return number
        elif assignment := re.match(r"\s*([^=#]+?)\s*=", line):
            path = section + _dotted(assignment[1])
            in_inline_table = path == key[: len(path)] and "{" in line
            if path == key or in_inline_table:
                return number
    return None


def _dotted(name: str) -> Key:
    return tuple(part.strip().strip("\"'") for part in name.split("."))


def _drop(values: dict[str, Any], key: Key) -> None:
    """Remove what lies at `key`, or the section above it that is a value instead."""
    for part in key[:-1]:
        below = values.get(part)
        if not isinstance(below, dict):
            values.pop(part, None)
            return
        values = below
    if key[-1] in values:
        del values[key[-1]]
    elif "." in key[-1]:
        _drop(values, tuple(key[-1].split(".")))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows editors like to add a BOM
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8."
        ) from None
    except OSError as error:
        raise SettingsError(
            f"Cannot read the settings file {path}: {error.strerror}; correct or remove it."
        ) from error


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    nested = {k: _given(v) if isinstance(v, Mapping) else v for k, v in flags.items()}
    return {key: value for key, value in nested.items() if value is not None and value != {}}


def _unknown(where: str, settings: type[BaseModel], key: Key) -> SettingsError:
    section = settings
    for part in key[:-1]:
        field = section.model_fields.get(part)  # none for the name of a preset
        for annotation in (field.annotation, *get_args(field.annotation)) if field else ():
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                section = annotation
    known = ", ".join(sorted(section.model_fields))
    return SettingsError(f"{where} is not a setting; correct or remove it (known: {known}).")
