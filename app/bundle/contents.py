"""Which models and adapters go into a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openchat_local.app.engine import installed_adapters, installed_models, model_path
from openchat_local.models.gguf import read_gguf
from openchat_local.models.gguf.quantisation import quantisation_in, quantisation_of
from openchat_local.models.library.catalog import known_model
from openchat_local.models.library.store import name_from

STARTER = "starter"  # a model, and the extra whose package brings it


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A model's file here, or files in order, and what it will be called there."""

    name: str
    quantisation: str
    sources: tuple[Path, ...]

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.quantisation}"

    @property
    def file_name(self) -> str:
        """Its (first) file's name in the bundle, which tells the quantisation."""
        return next(iter(self.files))

    @property
    def files(self) -> dict[str, Path]:
        """The files here, by their names in the bundle."""
        stem, count = f"{self.name}.{self.quantisation}", len(self.sources)
        if count == 1:
            return {f"{stem}.gguf": self.sources[0]}
        return {f"{stem}-{n:05}-of-{count:05}.gguf": s for n, s in enumerate(self.sources, 1)}

    @property
    def bytes(self) -> int:
        return sum(source.stat().st_size for source in self.sources)


@dataclass(frozen=True, slots=True)
class Contents:
    """`models` as files, `extras` of our package (the starter is one), `adapters` as files by
    their names."""

    models: tuple[BundledModel, ...]
    extras: tuple[str, ...]
    adapters: dict[str, Path]

    @property
    def first_model(self) -> str:
        """What a chat there will use unless it is told otherwise."""
        return self.models[0].reference if self.models else STARTER


def choose_contents(models: Sequence[str], adapters: Sequence[str]) -> Contents:
    """What these names mean, every file's header checked.

    Raises ModelFileError or AdapterError for what is not here or not whole.
    """
    chosen, extras = [], []
    for name in dict.fromkeys(models):
        known = known_model(name)
        if known is not None and known.package:
            extras.append(STARTER)
            read_gguf(model_path(name))
        else:
            chosen.append(_bundled(name))
    library = installed_adapters()
    found = {name: library.info(name).path for name in dict.fromkeys(adapters)}
    return Contents(tuple(chosen), tuple(dict.fromkeys(extras)), found)


def _bundled(name: str) -> BundledModel:
    path = model_path(name)
    header = read_gguf(path)
    sources = header.parts or (path,)
    installed = installed_models().find(name)
    if installed is not None:
        return BundledModel(installed.card.name, installed.card.quantisation, sources)
    quantisation = quantisation_in(path.name) or quantisation_of(header)
    return BundledModel(name_from(path.name), quantisation, sources)
