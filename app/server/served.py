"""Which models there are to ask: the loaded one, and with each adapter that fits it another."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openchat_local.app.server.errors import ApiError
from openchat_local.models.engine.protocol import AdapterChoice, LoadedModel
from openchat_local.models.errors import OpenChatError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.library import model_name
from openchat_local.models.library.adapter_file import (
    FILE_NAME,
    TrainedClass,
    check_fits,
    read_adapter,
)
from openchat_local.models.library.adapters import AdapterLibrary

_HASH_DIGITS = 12


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model by its `id`. `condition` is the one in force where a request names none, "" for
    none; `classes` are what an adapter was trained on. Hashes are those of the files, hex;
    `created` is a Unix time."""

    id: str
    choice: AdapterChoice
    parent: str | None
    condition: str
    classes: tuple[TrainedClass, ...]
    base_hash: str
    adapter_hash: str | None
    created: int

    def fingerprint(self, condition: str | None) -> str:
        """What produced a reply under `condition`, None for the model's own."""
        said = (self.condition if condition is None else condition).strip()
        adapter = self.adapter_hash or "none"
        return f"base {self.base_hash}, adapter {adapter}, condition {said or 'none'}"


class ServedModels:
    """Looked for anew at each request; what costs is done once for each file as it stands."""

    def __init__(
        self,
        loaded: LoadedModel,
        library: AdapterLibrary,
        *,
        named: Mapping[str, Path] | None = None,
        default: str | None = None,
        condition: str | None = None,
        conditions: bool = True,
        force: bool = False,
    ) -> None:
        """`loaded` has no adapter in force. `named` are adapters outside of `library`; `default`
        is the name of the one that answers where no model is named, `condition` stands in
        where none is. `conditions` says whether the model's template writes any; `force` takes
        adapters of other models."""
        self._loaded = loaded
        self._library = library
        self._named = dict(named or {})
        self._default = default
        self._condition = condition if conditions else ""
        self.conditions = conditions
        self._force = force
        self._file = read_gguf(loaded.path)
        self._known: dict[tuple[float, ...], ServedModel | OpenChatError] = {}
        self._lock = threading.Lock()
        self.base = ServedModel(
            id=loaded.name,
            choice=AdapterChoice(),
            parent=None,
            condition=loaded.default_condition if self._condition is None else self._condition,
            classes=(),
            base_hash=self._file.fingerprint[:_HASH_DIGITS],
            adapter_hash=None,
            created=int(Path(loaded.path).stat().st_mtime),
        )

    @property
    def condition(self) -> str | None:
        """The server's own condition, None where each model has its own."""
        return self._condition

    def condition_for(self, asked: str | None) -> str | None:
        """The condition of a request that asks for one, or for none (None)."""
        return self._condition if asked is None or not self.conditions else asked

    def all(self) -> list[ServedModel]:
        """The base, and each adapter that fits it."""
        found = [self.base]
        for name in dict.fromkeys([*self._named, *self._library.names()]):
            try:
                found.append(self._adapter(name))
            except OpenChatError:
                continue  # of another model, or damaged: whoever asks for it is told
        return found

    def find(self, id: str | None) -> ServedModel:
        """The model of that id; the server's own for None. Raises ApiError: 404."""
        if id is None:
            return self.base if self._default is None else self._served(self._default)
        if id == self.base.id:
            return self.base
        prefix = f"{self.base.id}:"
        if not id.startswith(prefix):
            raise self._unknown(id)
        return self._served(id.removeprefix(prefix))

    def _served(self, name: str) -> ServedModel:
        if name not in self._named and name not in self._library.names():
            raise self._unknown(f"{self.base.id}:{name}")
        try:
            return self._adapter(name)
        except OpenChatError as error:
            raise ApiError(404, str(error), param="model", code="model_not_found") from error

    def _unknown(self, id: str) -> ApiError:
        known = ", ".join(model.id for model in self.all())
        return ApiError(
            404,
            f"There is no model {id[:200]!r} here: ask for one of {known}.",
            param="model",
            code="model_not_found",
        )

    def _adapter(self, name: str) -> ServedModel:
        path = self._named.get(name) or self._library.existing(name) / FILE_NAME
        try:
            status = path.stat()
        except OSError as error:
            raise OpenChatError(f"The adapter {name} cannot be read ({error.strerror}).") from error
        scale = 1.0 if name in self._named else self._library.scale(name)
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, scale)
        with self._lock:
            known = self._known.get(key)
            if known is None or (isinstance(known, ServedModel) and known.choice.path != path):
                known = self._known[key] = self._looked_at(name, path, scale, int(status.st_mtime))
        if isinstance(known, OpenChatError):
            raise known
        return known

    def _looked_at(
        self, name: str, path: Path, scale: float, created: int
    ) -> ServedModel | OpenChatError:
        try:
            file = read_adapter(path)
            check_fits(file, self._file, force=self._force)
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OpenChatError as error:
            return error
        except OSError as error:
            return OpenChatError(f"The adapter {name} cannot be read ({error.strerror}).")
        own = file.card.condition
        in_force = own if own is not None else self._loaded.default_condition
        return ServedModel(
            id=f"{self.base.id}:{name}",
            choice=AdapterChoice(path, scale),
            parent=self.base.id,
            condition=in_force if self._condition is None else self._condition,
            classes=file.card.classes,
            base_hash=self.base.base_hash,
            adapter_hash=digest[:_HASH_DIGITS],
            created=created,
        )


def names_of(
    path: Path,
    library: AdapterLibrary,
    named: Mapping[str, Path],
    default: str | None,
    *,
    force: bool = False,
) -> tuple[list[str], int]:
    """What would be served of the model at `path`, the one that answers by default first, and
    the context that the model was trained with, in tokens; without loading it. Raises
    ModelFileError."""
    file, base = read_gguf(path), model_name(path)
    files = {name: library.existing(name) / FILE_NAME for name in library.names()} | {**named}
    ids = [base]
    for name, adapter in files.items():
        try:
            check_fits(read_adapter(adapter), file, force=force)
        except OpenChatError:
            continue
        ids.insert(0 if name == default else len(ids), f"{base}:{name}")
    return ids, file.context_length
