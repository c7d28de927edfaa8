"""The adapters that one loaded model has at hand (in the engine child)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from openchat_local.models.engine.decoding.llamacpp import Adapter, Model
from openchat_local.models.engine.states import StateStore
from openchat_local.models.errors import AdapterError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.library.adapter_file import AdapterFile, check_fits, read_adapter

MOST_LOADED = 4


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """`weights` is None where the model has none. `digest` is the file's BLAKE2b: the header
    and samples that tell models apart need not tell two checkpoints of one run apart. `doubt`
    is a sentence for the user, if it was made for another model."""

    file: AdapterFile
    weights: Adapter | None
    digest: str
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class ActiveAdapter:
    """What a request is answered with besides the model: an adapter, or none (`key` ""). Cells
    of the cache belong to those with the same `key`; `states` are its KV states on disk.
    `condition` stands in where a conversation names none."""

    key: str
    condition: str
    states: StateStore | None = None
    name: str | None = None
    weights: Adapter | None = None
    scale: float = 1.0


class LoadedAdapters:
    """Each file is loaded once, and once more when it has changed on disk. Of more than
    MOST_LOADED, those that are least recently used go first."""

    def __init__(self, model: Model, file: GGUFFile, *, vocab_only: bool, force: bool) -> None:
        self._force = force
        self._model = model
        self._file = file
        self._vocab_only = vocab_only
        self._adapters: OrderedDict[tuple[int, ...], LoadedAdapter] = OrderedDict()
        self.in_use: Callable[[], Collection[Adapter]] = tuple

    def get(self, path: Path) -> LoadedAdapter:
        """The adapter at `path`. Raises AdapterError or ModelFileError, if it cannot be used
        with this model."""
        key = _identity(path)
        if key not in self._adapters:
            self._adapters[key] = self._load(path)
            self._let_go()
        self._adapters.move_to_end(key)
        return self._adapters[key]

    def condition(self, path: Path) -> str | None:
        """The condition of the adapter at `path`, which is not loaded for it; any thread may
        ask. Raises AdapterError or ModelFileError."""
        known = self._adapters.get(_identity(path))
        file = read_adapter(path) if known is None else known.file
        return file.card.condition

    def _load(self, path: Path) -> LoadedAdapter:
        adapter = read_adapter(path)
        doubt = check_fits(adapter, self._file, force=self._force)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "blake2b").hexdigest()
        weights = None if self._vocab_only else Adapter(self._model, path)
        return LoadedAdapter(adapter, weights, digest, doubt)

    def _let_go(self) -> None:
        needed = self.in_use()
        for key in [*self._adapters][:-1]:
            if len(self._adapters) <= MOST_LOADED:
                return
            weights = self._adapters[key].weights
            if weights is None or weights not in needed:
                del self._adapters[key]
                if weights is not None:
                    weights.close()


def _identity(path: Path) -> tuple[int, ...]:
    """What changes when the file does. Raises AdapterError."""
    try:
        status = path.stat()
    except OSError as error:
        raise AdapterError(
            f"The adapter {path} cannot be read ({error.strerror}): choose another one, or none."
        ) from error
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
