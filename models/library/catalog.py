"""The models we know by name: `catalog.toml`, read and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from openchat_local.models.errors import OpenChatError
from openchat_local.models.gguf.quantisation import WeightShape
from openchat_local.models.memory import ModelShape
from openchat_local.models.system.names import is_folder_name

PATH = Path(__file__).with_name("catalog.toml")


class CatalogError(OpenChatError):
    """The catalogue has an entry that cannot be used."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model with a name. It lies on the hub (`hub` is OWNER/REPOSITORY), or, when `hub` is
    "", as `file` in the Python package `package`, which the command `install` brings. A hub that
    has only one file of it is no choice of quantisation: that is `file`, too.

    `template` is a template family, or "jinja" for the file's own; `conditions` those that it
    was trained under with the default first, `context` its tokens, `original` where the weights
    lie that the files were made of (OWNER/REPOSITORY on the hub).
    """

    name: str
    title: str
    licence: str
    template: str
    context: int
    shape: WeightShape
    hub: str = ""
    package: str = ""
    file: str = ""
    install: str = ""
    original: str = ""
    conditions: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def memory_shape(self) -> ModelShape:
        """The part of the shape that memory depends on."""
        shape = self.shape
        return ModelShape(
            shape.blocks,
            shape.width,
            shape.heads,
            shape.kv_heads,
            shape.head_width,
            shape.vocabulary,
            shape.feed_forward,
        )


@cache
def catalog() -> Mapping[str, KnownModel]:
    """The known models by name, in the order of the list. Raises CatalogError."""
    return read_catalog(PATH)


def known_model(name: str) -> KnownModel | None:
    """The model that goes by `name` or has it as an alias."""
    found = catalog().get(name)
    return found or next((m for m in catalog().values() if name in m.aliases), None)


def known_repository(repository: str) -> KnownModel | None:
    """The known model whose files lie in `repository` (OWNER/REPOSITORY) on the hub."""
    wanted = repository.lower()
    return next((m for m in catalog().values() if m.hub.lower() == wanted), None)


def read_catalog(path: Path) -> dict[str, KnownModel]:
    """The catalogue in the TOML file at `path`. Raises CatalogError, which names the entry."""
    try:
        entries = tomllib.loads(path.read_text("utf-8"))["model"]
        if not isinstance(entries, list):
            raise ValueError("there is no [[model]]")
    except (OSError, ValueError, KeyError) as error:
        raise CatalogError(f"The catalogue {path} cannot be read ({error}): mend it.") from error
    models: dict[str, KnownModel] = {}
    taken: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        model = _entry(path, number, entry)
        if clash := taken & {model.name, *model.aliases}:
            raise CatalogError(f"{path}: two models are called {min(clash)!r}; rename one.")
        taken |= {model.name, *model.aliases}
        models[model.name] = model
    return models


def _entry(path: Path, number: int, entry: Mapping[str, Any]) -> KnownModel:
    where = f"{path}, entry {number} ({entry.get('name', 'without a name')!r})"
    shape = _typed(WeightShape, entry.get("shape", {}), f"{where}, shape")
    model: KnownModel = _typed(KnownModel, {**entry, "shape": shape}, where)
    if not all(map(is_folder_name, (model.name, *model.aliases))):
        raise CatalogError(f"{where}: the name cannot be a folder's; choose another.")
    on_hub, in_package = bool(model.hub), bool(model.package and model.file and model.install)
    if on_hub == in_package or (on_hub and model.hub.count("/") != 1):
        raise CatalogError(
            f'{where}: give either hub = "OWNER/REPOSITORY" or package, file and install.'
        )
    return model


def _typed(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass `kind` made of `values`, each of the type of its field's default or name."""
    wanted = {field.name: field for field in fields(kind)}
    if unknown := set(values) - set(wanted):
        raise CatalogError(f"{where}: there is no field {min(unknown)!r}; correct or remove it.")
    checked = {}
    for name, value in values.items():
        type_name = str(wanted[name].type)
        if not _is_a(value, type_name):
            raise CatalogError(f"{where}: {name} = {value!r} is no {type_name}; correct it.")
        checked[name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**checked)
    except TypeError as error:  # a field is missing
        raise CatalogError(f"{where}: {str(error).partition('() ')[2]}; add it.") from None


def _is_a(value: Any, type_name: str) -> bool:
    match type_name:
        case "str":
            return isinstance(value, str) and bool(value)
        case "int":
            return type(value) is int and value > 0
        case "bool":
            return type(value) is bool
        case "tuple[str, ...]":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, WeightShape)
