"""What is known of an installed model without opening it: `model.json` beside its file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.gguf.kinds import check_can_chat
from openchat_local.models.gguf.quantisation import quantisation_of
from openchat_local.models.gguf.split import part_names
from openchat_local.models.memory import ModelShape, shape_of
from openchat_local.models.system.atomic import replacing

CARD = "model.json"


@dataclass(frozen=True, slots=True)
class CardPart:
    """One file of a model: its name, size and SHA-256 (hex)."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model's name, where it came from, and what `list` and `verify` need.

    `bytes` and `sha256` (hex) are those of the whole file; of a model in several files `bytes`
    is all of it, `file` the first, and `parts` are all of them. `fingerprint` is
    `GGUFFile.fingerprint`, `context` in tokens. `origin` is "hub", "copy" or "link";
    `source` the hub's OWNER/REPOSITORY/FILE at `revision`, or the path it came from.
    `added` and `verified` are UTC times in ISO 8601; `verified` is when the whole file was
    last read and had that hash.
    """

    name: str
    quantisation: str
    file: str
    bytes: int
    sha256: str
    fingerprint: str
    architecture: str
    context: int
    shape: ModelShape
    origin: str
    source: str
    added: str
    verified: str
    revision: str = ""
    licence: str = ""
    parts: tuple[CardPart, ...] = ()

    @property
    def files(self) -> tuple[CardPart, ...]:
        """What is in the folder: one file, or the parts."""
        return self.parts or (CardPart(self.file, self.bytes, self.sha256),)

    @property
    def reference(self) -> str:
        """NAME:QUANTISATION, which means this model and no other."""
        return f"{self.name}:{self.quantisation}"


def describe(
    file: GGUFFile,
    name: str,
    sha256: str | Sequence[str],
    *,
    origin: str,
    source: str,
    file_name: str,
    quantisation: str | None = None,
    revision: str = "",
    licence: str = "",
) -> ModelCard:
    """The card of a file whose bytes were read just now and hash to `sha256`; of a model in
    several files the hashes of all, in order. They are named after the first, `file_name`.

    Raises ModelFileError if it is not a whole language model.
    """
    kind = file.metadata.get("general.type", "model")
    if kind == "adapter":
        raise ModelFileError(
            f"{file.path} is not a model but an adapter: add it with openchat-local adapters add."
        )
    check_can_chat(file)
    if kind != "model":
        raise ModelFileError(
            f"{file.path} is not a model: it is of the kind {kind!r}, which nothing here uses."
        )
    now = timestamp()
    hashes = (sha256,) if isinstance(sha256, str) else tuple(sha256)
    names = part_names(file_name) or [file_name]
    parts = tuple(
        CardPart(name, path.stat().st_size, hashed)
        for name, path, hashed in zip(names, file.parts, hashes, strict=bool(file.parts))
    )
    return ModelCard(
        name=name,
        quantisation=quantisation or quantisation_of(file),
        file=file_name,
        bytes=file.file_size,
        sha256=hashes[0],
        fingerprint=file.fingerprint,
        architecture=file.architecture,
        context=file.context_length,
        shape=shape_of(file),
        origin=origin,
        source=source,
        added=now,
        verified=now,
        revision=revision,
        licence=licence or str(file.metadata.get("general.license", "")),
        parts=parts,
    )


def write_card(folder: Path, card: ModelCard) -> None:
    """Put the card into `folder`, whole or not at all; from then on the model is installed."""
    values = asdict(card)
    if not card.parts:
        del values["parts"]  # which earlier versions of this program would not know
    with replacing(folder / CARD) as part:
        part.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_card(folder: Path) -> ModelCard:
    """Raises ModelFileError if the card is missing or damaged."""
    path = folder / CARD
    try:
        values = json.loads(path.read_text("utf-8"))
        shape = ModelShape(**{k: int(v) for k, v in values["shape"].items()})
        parts = tuple(CardPart(**part) for part in values.get("parts", ()))
        card = ModelCard(**{**values, "shape": shape, "parts": parts})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelFileError(
            f"{path} is damaged ({error}): delete the folder {folder}, and add the model again."
        ) from error
    described: tuple[ModelCard | CardPart, ...] = (card, *card.parts)
    if not all(_is_plain(getattr(d, f.name), f.type) for d in described for f in fields(d)):
        raise ModelFileError(
            f"{path} is damaged: delete the folder {folder}, and add the model again."
        )
    return card


def timestamp() -> str:
    """Now, in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _is_plain(value: Any, type_name: Any) -> bool:
    # A card is a file that anybody may have edited.
    if type_name == "str":
        return isinstance(value, str) and "\0" not in value
    return type(value) is int if type_name == "int" else True
