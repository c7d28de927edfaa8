"""GGUF files that other programs have fetched already: Hugging Face, LM Studio, Ollama.

Only their folders are read, and what they say of themselves is not believed: a file is
offered if it exists and begins like GGUF; `add` reads and hashes it like any other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openchat_local.models.gguf.split import part_names
from openchat_local.models.library.store import name_from

_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A file of another program; `name` is what it could be called here, `bytes` its size."""

    program: str
    name: str
    path: Path
    bytes: int


def find_elsewhere() -> list[FoundModel]:
    """What is there, each file once, in the order of the programs and then of names."""
    found: dict[Path, FoundModel] = {}
    for model in (*_hugging_face(), *_lm_studio(), *_ollama()):
        found.setdefault(model.path.resolve(), model)
    return list(found.values())


def same_elsewhere(sha256: str, size: int, file_name: str) -> FoundModel | None:
    """A file that is this content, as far as can be told without reading it: of that size, and
    named after that hash (Hugging Face and Ollama do so) or called the same."""
    for model in find_elsewhere():
        blob = model.path.resolve().name.removeprefix("sha256-")
        if model.bytes == size and (blob == sha256 or model.path.name == file_name):
            return model
    return None


def _hugging_face() -> Iterator[FoundModel]:
    """HUB/models--OWNER--REPOSITORY/snapshots/REVISION/FILE.gguf, a link to a blob."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    hub = Path(os.environ.get("HF_HOME") or home) / "hub"
    hub = Path(os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or hub)
    for path in _files(hub, "models--*/snapshots/*/**/*.gguf"):
        if model := _model("Hugging Face", name_from(path.name), path):
            yield model


def _lm_studio() -> Iterator[FoundModel]:
    """OWNER/REPOSITORY/FILE.gguf in the folder of this year's releases, or of last year's."""
    for folder in (Path("~/.lmstudio/models"), Path("~/.cache/lm-studio/models")):
        for path in _files(folder, "*/*/*.gguf"):
            if model := _model("LM Studio", name_from(path.name), path):
                yield model


def _ollama() -> Iterator[FoundModel]:
    """manifests/HOST/NAMESPACE/NAME/TAG names a blob by its hash; the blob is a GGUF file.

    https://github.com/ollama/ollama/blob/main/docs/faq.md tells where the store is.
    """
    stores = (
        [Path(os.environ["OLLAMA_MODELS"])]
        if os.environ.get("OLLAMA_MODELS")
        else [
            Path("~/.ollama/models"),
            Path("/usr/share/ollama/.ollama/models"),
            Path("/var/lib/ollama/.ollama/models"),
        ]
    )
    for store in stores:
        for manifest in _files(store, "manifests/*/*/*/*"):
            blob = _ollama_blob(manifest)
            if blob is None:
                continue
            path = store.expanduser() / "blobs" / f"sha256-{blob}"
            tag = "" if manifest.name == "latest" else f"-{manifest.name}"
            if model := _model("Ollama", name_from(manifest.parent.name + tag), path):
                yield model


def _ollama_blob(manifest: Path) -> str | None:
    """The hash (hex) of the model's file, None if the manifest names none."""
    try:
        if manifest.stat().st_size > 1_000_000:
            return None
        layers = json.loads(manifest.read_text("utf-8"))["layers"]
        digests = [layer["digest"] for layer in layers if layer["mediaType"] == _OLLAMA_MODEL]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no manifest of a kind that is known here
    blob = digests[0].removeprefix("sha256:") if digests and isinstance(digests[0], str) else ""
    return blob if len(blob) == 64 and set(blob) <= _HEX else None


def _files(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(path for path in folder.expanduser().glob(pattern) if path.is_file())
    except OSError:
        return []  # another user's, for example


def _model(program: str, name: str, path: Path) -> FoundModel | None:
    if "mmproj" in path.name.lower():
        return None  # the picture encoder of a model, not a model
    names = part_names(path.name)
    if names[1:] and path.name != names[0]:
        return None  # told of with the first
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                return None
        size = sum(path.with_name(part).stat().st_size for part in names or [path.name])
        return FoundModel(program, name, path, size)
    except OSError:
        return None
