"""Changing the settings file from within the program, comments and all kept as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.app.settings.layers import SettingsError
from openchat_local.app.settings.words import Key
from openchat_local.models.system.atomic import replacing

if TYPE_CHECKING:
    from tomlkit.container import Container


def write_setting(path: Path, key: Key, value: object) -> None:
    """Set `key` in the TOML file at `path`, which is made if need be; None removes it.

    A mapping becomes a section. Everything else in the file stays, its comments and order
    too. Raises SettingsError where the file cannot be read as TOML or not be written.
    """
    try:
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        written = with_setting(text, key, value)
    except ValueError as error:
        raise SettingsError(
            f"{path} is not valid TOML ({error}), so nothing was written to it; correct it first."
        ) from None
    except OSError as error:
        raise _unwritable(path, error) from error
    write_file(path, written.encode())


def with_setting(text: str, key: Key, value: object) -> str:
    """The TOML `text` with `key` set, or, for None, without it. Raises ValueError where it is
    no TOML."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(text)
        _put(document, key, value)
        return tomlkit.dumps(document)
    except TOMLKitError as error:
        raise ValueError(str(error)) from error


def write_file(path: Path, data: bytes) -> None:
    """Replace the settings file at `path`, or make it. Raises SettingsError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A link to a file elsewhere, as people keep their settings, stays a link.
        with replacing(path.resolve()) as part:
            part.write_bytes(data)
    except OSError as error:
        raise _unwritable(path, error) from error


def _put(document: Container, key: Key, value: object) -> None:
    import tomlkit

    table: Any = document
    for part in key[:-1]:
        if not isinstance(table.get(part), Mapping):
            if value is None:
                return
            table[part] = tomlkit.table()
        table = table[part]
    if value is None:
        table.pop(key[-1], None)
    elif isinstance(value, Mapping):
        table[key[-1]] = _section(value)
    else:
        table[key[-1]] = value


def _section(values: Mapping[str, Any]) -> Any:
    import tomlkit

    table = tomlkit.table()
    # Plain values first: what follows a section's heading belongs to that section.
    for name, value in sorted(values.items(), key=lambda item: isinstance(item[1], Mapping)):
        table[name] = _section(value) if isinstance(value, Mapping) else value
    return table


def _unwritable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"The settings file {path} cannot be written ({error.strerror or error}); "
        "make it and its folder writable, and try again."
    )
