"""A model that came with a Python package: its hash is in the package's own RECORD."""

from __future__ import annotations

import base64
from importlib import metadata

from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf.header import cannot_read
from openchat_local.models.library.catalog import KnownModel
from openchat_local.models.library.hashing import Progress, sha256_of
from openchat_local.models.library.resolve import installed_path


def verify_packaged(model: KnownModel, on_progress: Progress | None = None) -> str:
    """The SHA-256 (hex) of a model's file, which is what the package was published with.

    Raises ModelFileError if it is not, or is not installed. Format of RECORD:
    https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    """
    path = installed_path(model)
    if path is None:
        raise ModelFileError(f"The model '{model.name}' is not installed: {model.install}.")
    try:
        found = sha256_of(path, on_progress)
    except OSError as error:
        raise cannot_read(path, error) from error
    distribution = model.package.replace("_", "-")
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        files = []
    recorded = next((f.hash for f in files if f.name == model.file and f.hash), None)
    if recorded is None:
        raise ModelFileError(
            f"The package {distribution} has no record of {model.file}: install it again with "
            f"{model.install}."
        )
    padded = recorded.value + "=" * (-len(recorded.value) % 4)
    if recorded.mode != "sha256" or base64.urlsafe_b64decode(padded).hex() != found:
        raise ModelFileError(
            f"{path} is damaged: its SHA-256 is not that of the package {distribution}; remove "
            f"the package with pip uninstall {distribution}, then {model.install}."
        )
    return found
