"""The settings in force in one chat: its own values over those of everything else. The window
and the command line both ask here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from openchat_local.app.settings.model import Preset, SamplingSettings, Settings
from openchat_local.app.settings.words import allowed
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat

SAMPLING_NAMES = tuple(SamplingSettings.model_fields)
THINKING = "thinking"
"""The one of them that is no number."""
CHAT_FIELDS = ("model", "adapter", "template", "condition", "system_prompt", "sampling")
"""The columns of a chat's row that hold its own settings."""
DEFAULT = "default"
"""Written in place of a value: the one of the settings."""
NONE = "none"
"""Written in place of a text: an empty one."""
ADAPTER = "adapter"
"""Written in place of a system prompt: the one that the adapter was trained under."""


class ChatSettingError(OpenChatError):
    """A value that a chat cannot have, or a preset that does not exist."""


@dataclass(frozen=True, slots=True)
class EffectiveSettings:
    """Every setting in force in a chat, and which of them are the chat's own.

    `condition` None is the template's or the adapter's own, "" is none at all. `sampling`
    is complete; `own` are names of these fields and of those of the sampling.
    """

    model: str
    adapter: str | None
    template: str | None
    condition: str | None
    system_prompt: str
    sampling: SamplingSettings
    own: frozenset[str]


def chat_fields(chat: Chat) -> dict[str, Any]:
    """A chat's own settings, as columns of its row."""
    return {name: getattr(chat, name) for name in CHAT_FIELDS}


def effective_settings(
    settings: Settings, fields: Mapping[str, Any], flags: Mapping[str, Any] | None = None
) -> EffectiveSettings:
    """The settings in force in a chat with these `fields` of its row. `flags`, nested as the
    settings are, come before the chat's own values; None among them is not given.

    Values of sampling that are not allowed (any more) are those of the settings instead.
    """
    fields = _with_flags(fields, flags or {})
    sampling = dict(fields.get("sampling") or {})
    complete = settings.sampling
    own = set()
    for name, value in sampling.items():
        if name in SAMPLING_NAMES:
            try:
                complete = _with(complete, name, value)
            except ValidationError:
                continue
            own.add(name)
    texts = {
        "model": fields.get("model") or settings.model,
        "adapter": fields.get("adapter") or settings.adapter,
        "template": fields.get("template") or settings.template,
        "condition": fields.get("condition", settings.condition),
        "system_prompt": fields.get("system_prompt", settings.system_prompt),
    }
    own |= {name for name, value in texts.items() if value != getattr(settings, name)}
    return EffectiveSettings(**texts, sampling=complete, own=frozenset(own))


def sampling_value(name: str, text: str) -> Any:
    """What a person wrote for a field of the sampling, as the value that it takes; None for
    "default". Raises ChatSettingError, which says what is allowed."""
    if text == DEFAULT:
        return None
    try:
        return getattr(_with(SamplingSettings(), name, text), name)
    except ValidationError:
        raise ChatSettingError(
            f"{name} cannot be {text!r}: it is {allowed(SamplingSettings, (name,))}; "
            f"{DEFAULT} is the value of the settings."
        ) from None


def text_value(settings: Settings, name: str, text: str) -> str | None:
    """What a person wrote for the condition or the system prompt: "none" is an empty one,
    "default" that of the settings."""
    if text == DEFAULT:
        value: str | None = getattr(settings, name)
        return value
    return "" if text == NONE else text


def adapter_system_prompt(path: Path | str) -> str | None:
    """The system prompt that the adapter at `path` was trained under. Raises AdapterError or
    ModelFileError."""
    from openchat_local.models.library.adapter_file import read_adapter

    return read_adapter(Path(path)).card.system_prompt


def preset_fields(settings: Settings, name: str) -> dict[str, Any]:
    """What the preset of this name sets. Raises ChatSettingError."""
    preset = settings.presets.get(name)
    if preset is None:
        known = ", ".join(sorted(settings.presets))
        there_are = f"there are {known}" if known else "there is none yet"
        raise ChatSettingError(
            f"There is no preset {name!r}: {there_are}; /preset save NAME keeps the options "
            "of this chat."
        )
    return preset.as_fields()


def as_preset(now: EffectiveSettings) -> dict[str, Any]:
    """What the preset that keeps a chat's own values says in the settings file.

    Raises ChatSettingError where the chat has none.
    """
    fields = {name: getattr(now, name) for name in Preset.model_fields if name in now.own}
    sampling = {name: getattr(now.sampling, name) for name in SAMPLING_NAMES if name in now.own}
    if sampling:
        fields["sampling"] = sampling
    if not fields:
        raise ChatSettingError(
            "This chat has no options of its own: change one first, for example /temperature 0.2."
        )
    return fields


def in_words(name: str, value: object) -> str:
    """A value as a person reads it."""
    if name == "system_prompt":
        return f"“{value}”" if value else "the model's own"
    if name == "max_tokens" and value == 0:
        return "not limited"
    if name == "seed" and value is None:
        return "a new one for each reply"
    return "unset" if value is None else f"{value}"


def _with_flags(fields: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: flags[name] for name in CHAT_FIELDS if flags.get(name) is not None}
    sampling = given.pop("sampling", {})
    changed = {name: value for name, value in sampling.items() if value is not None}
    return {**fields, **given, "sampling": {**(fields.get("sampling") or {}), **changed}}


def _with(sampling: SamplingSettings, name: str, value: object) -> SamplingSettings:
    return SamplingSettings(**(sampling.model_dump() | {name: value}))
