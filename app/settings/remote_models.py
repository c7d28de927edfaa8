"""Models of engines that are other programs: named in the settings, or given as a URL.

A model of one is called MODEL@ENGINE wherever a model is named: after `-m`, in the settings, in a
preset, on a chat. ENGINE is a name of the settings or a URL; without MODEL it is the engine's own.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.app.settings.engines import NamedEngine
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.settings.model import Settings
    from openchat_local.models.engine.remote.options import RemoteOptions

_WITH_URL = re.compile(r"(?P<model>.*?)@(?P<engine>https?://\S+)", re.DOTALL)
_NAME = re.compile(r"[\w.-]+")


class EngineNameError(OpenChatError):
    """A name that no engine has, or an engine that cannot be asked."""


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model of a remote engine; `model` "" is the engine's own."""

    model: str
    engine: str


def remote_model(text: str, names: Container[str]) -> RemoteModel | None:
    """What `text` names, where that is a model of a remote engine, of which `names` are in the
    settings; None for a model of this machine. A file that is there is a file, whatever its name.
    """
    from openchat_local.models.engine.remote.address import looks_like_address

    if "@" not in text or _is_file(text):
        return None
    if found := _WITH_URL.fullmatch(text):
        return RemoteModel(found["model"], found["engine"])
    model, _, engine = text.rpartition("@")
    if engine in names or looks_like_address(engine):
        return RemoteModel(model, engine)
    return RemoteModel(model, engine) if _NAME.fullmatch(engine) else None


def remote_options(settings: Settings) -> RemoteOptions | None:
    """How the model of the settings is asked, where that is a remote engine's; None of a model of
    this machine. Raises EngineNameError or AddressError."""
    found = remote_model(settings.model, settings.engines)
    return None if found is None else options_of(settings, found)


def options_of(settings: Settings, found: RemoteModel) -> RemoteOptions:
    """How a remote model is asked. Raises EngineNameError, or AddressError."""
    from openchat_local.models.engine.remote.address import looks_like_address, read_address
    from openchat_local.models.engine.remote.options import RemoteOptions

    entry = settings.engines.get(found.engine)
    if entry is None or (not entry.url and looks_like_address(found.engine)):
        if not looks_like_address(found.engine):
            raise EngineNameError(_unknown(found.engine, settings))
        url, label = found.engine, ""
    elif not entry.url:
        raise EngineNameError(
            f"The engine {found.engine} has no URL: set url under [engines.{found.engine}] in the "
            "settings file (openchat-local config path)."
        )
    else:
        url, label = entry.url, found.engine
    address = read_address(url)
    named = entry or NamedEngine()
    return RemoteOptions(
        address,
        label or address.label,
        model=found.model or named.model,
        key_name=named.api_key_env,
        context=named.context,
    )


def with_engine(
    engine: str, model: str | None, key_name: str | None, context: int | None
) -> dict[str, Any]:
    """The overrides of the settings that `--engine` and its like mean."""
    named: dict[str, Any] = {"api_key_env": key_name, "context": context}
    given = {name: value for name, value in named.items() if value is not None}
    overrides: dict[str, Any] = {"model": f"{model or ''}@{engine}"}
    return overrides | ({"engines": {engine: given}} if given else {})


def named_engines(settings: Settings) -> Mapping[str, NamedEngine]:
    """Those that can be chosen by their name."""
    return {name: entry for name, entry in settings.engines.items() if entry.url}


def _unknown(name: str, settings: Settings) -> str:
    known = ", ".join(sorted(named_engines(settings)))
    there = f"there are {known}" if known else "there is none yet"
    return (
        f"There is no engine {name!r} in the settings: {there}; give a URL, or set url under "
        f"[engines.{name}] in the settings file (openchat-local config path)."
    )


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False
