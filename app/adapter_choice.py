"""Which adapter the user means by a name."""

from __future__ import annotations

from pathlib import Path

from openchat_local.app.paths import adapters_dir
from openchat_local.models.library.adapters import NO_ADAPTER, AdapterLibrary


def installed_adapters() -> AdapterLibrary:
    """The adapters in the data home."""
    return AdapterLibrary(adapters_dir())


def adapter_path(name: str | None) -> Path | None:
    """The file of the adapter that `name` means; None for "none" and for nothing at all.

    Raises AdapterError when there is no such adapter.
    """
    if name is None or name == NO_ADAPTER:
        return None
    return installed_adapters().resolve(name)
