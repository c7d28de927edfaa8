"""Which model the user means by a name, and what stands in the way of removing one."""

from __future__ import annotations

from pathlib import Path

from openchat_local.app.paths import models_dir
from openchat_local.models.errors import OpenChatError
from openchat_local.models.library import InstalledModel, ModelLibrary, resolve_model


def installed_models() -> ModelLibrary:
    """The models in the data home."""
    return ModelLibrary(models_dir())


def model_path(name: str) -> Path:
    """The file of the model that `name` means: NAME, NAME:QUANTISATION or a path.

    Raises ModelFileError when there is no such model.
    """
    return resolve_model(name, models_dir())


def look_at_model(name: str) -> None:
    """Raise ModelFileError where `name` means no model, or a file that holds none: before the
    model that works is given up for it."""
    from openchat_local.models.gguf import read_gguf

    read_gguf(model_path(name))


def adapters_of(model: InstalledModel) -> list[str]:
    """The installed adapters that were trained on this very model."""
    from openchat_local.app.adapter_choice import installed_adapters

    library = installed_adapters()
    needing = []
    for name in library.names():
        try:
            card = library.info(name).file.card
        except OpenChatError:
            continue  # a damaged adapter needs nothing any more
        if card.base_fingerprint == model.card.fingerprint:
            needing.append(name)
    return needing
