"""The adapters that one loaded model has at hand (in the engine child)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from openchat_local.models.engine.llamacpp import Adapter, Model
from openchat_local.models.errors import AdapterError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.library.adapter_file import AdapterFile, check_fits, read_adapter


@dataclass(frozen=True, slots=True)
class RackedAdapter:
    """`weights` is None where the model has none. `digest` is the file's BLAKE2b: the header
    and samples that tell models apart need not tell two checkpoints of one run apart. `doubt`
    is a sentence for the user, if it was made for another model."""

    file: AdapterFile
    weights: Adapter | None
    digest: str
    doubt: str | None = None


class AdapterRack:
    """Each file is loaded once, and once more when it has changed on disk."""

    def __init__(self, model: Model, file: GGUFFile, *, vocab_only: bool, force: bool) -> None:
        self._force = force
        self._model = model
        self._file = file
        self._vocab_only = vocab_only
        self._adapters: dict[tuple[int, ...], RackedAdapter] = {}

    def get(self, path: Path) -> RackedAdapter:
        """The adapter at `path`. Raises AdapterError or ModelFileError, if it cannot be used
        with this model."""
        try:
            status = path.stat()
        except OSError as error:
            raise AdapterError(
                f"The adapter {path} cannot be read ({error.strerror}): choose another one, "
                "or none."
            ) from error
        key = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        if key not in self._adapters:
            self._adapters[key] = self._load(path)
        return self._adapters[key]

    def _load(self, path: Path) -> RackedAdapter:
        adapter = read_adapter(path)
        doubt = check_fits(adapter, self._file, force=self._force)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "blake2b").hexdigest()
        weights = None if self._vocab_only else Adapter(self._model, path)
        return RackedAdapter(adapter, weights, digest, doubt)
