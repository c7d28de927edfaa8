"""Which files a folder of data is made of: those of one split, of one configuration.

A folder is what `datasets.save_to_disk` wrote, a copy of a dataset's repository from the
Hugging Face Hub, or any folder with files of data in it. What is one split or configuration of
it is named as if it were a file of the folder: FOLDER/validation, FOLDER/socratic/test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from openchat_local.finetune.data.containers.unpacking import PACKED_SUFFIXES
from openchat_local.finetune.data.faults import DataError

TRAIN = "train"
_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow"})
# What a dataset's own tools write beside the data.
_NOT_DATA = frozenset(
    {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"}
)
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")
_WORDS = {
    "train": TRAIN, "training": TRAIN,
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_DEFAULT = "default"
_MOST_FILES = 20_000
_MOST_TEXT = 2**20  # bytes of what describes a dataset


@dataclass(frozen=True, slots=True)
class Source:
    """The files behind a path, in the order that they are read in; `folder` is None where it is
    one file. `about` says which part of a folder they are, "" where they are all of it;
    `others` are the splits beside it."""

    path: Path
    files: tuple[Path, ...]
    folder: Path | None = None
    about: str = ""
    others: tuple[Path, ...] = ()

    def name_of(self, place: int) -> str:
        """What a file is called in words, by its place in `files`."""
        file = self.files[place]
        return file.relative_to(self.folder).as_posix() if self.folder else file.name


@dataclass(frozen=True, slots=True)
class _Part:
    config: str
    split: str
    files: tuple[Path, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called below its folder."""
        return self.config, self.split, f"{self.config}/{self.split}"


def source_of(path: Path) -> Source:
    """The files of `path`: itself, those of the folder that it is, or of the part of a folder
    that it names.

    Raises DataError where a folder holds no data, or several parts of which none is named.
    """
    if path.is_dir():
        return _of_folder(path, path, "")
    if not path.suffix and not path.exists():
        for folder in islice(path.parents, 3):
            if folder.is_dir():
                asked = path.relative_to(folder).as_posix()
                if any(asked in part.names for part in _parts(folder)):
                    return _of_folder(path, folder, asked)
                break
    return Source(path, (path,))


def _of_folder(path: Path, folder: Path, asked: str) -> Source:
    parts = _parts(folder)
    if not parts:
        raise DataError(
            f"{folder} is a folder that holds no data ({', '.join(sorted(_SUFFIXES))}): name "
            "another, or a file."
        )
    several = len({part.config for part in parts}) > 1
    chosen = [part for part in parts if not asked or asked in part.names]
    configs = list(dict.fromkeys(part.config for part in chosen))
    if len(configs) > 1 and _DEFAULT not in configs:
        raise DataError(
            f"{path} holds several data sets, {', '.join(configs)}: name one, such as "
            f"{folder / configs[0]}."
        )
    config = configs[0] if len(configs) == 1 else _DEFAULT
    chosen = [part for part in chosen if part.config == config]
    part = _of_split(path, folder, chosen, config if several else "")
    about = [part.config] if several else []
    where = folder / part.config if several else folder
    beside = [where / one.split for one in parts if one.config == part.config and one != part]
    about += [f"split {part.split}"] if beside or part.split != TRAIN else []
    return Source(path, part.files, folder, ", ".join(about), tuple(beside))


def _of_split(path: Path, folder: Path, parts: list[_Part], config: str) -> _Part:
    """The one that is trained on: "train", or the only one. Raises DataError."""
    begun = [part for part in parts if part.split.startswith(TRAIN)] or parts
    chosen = [part for part in parts if part.split == TRAIN] or begun
    if len(chosen) > 1:
        example = folder / config / chosen[0].split if config else folder / chosen[0].split
        listed = ", ".join(part.split for part in parts)
        raise DataError(f"{path} holds the splits {listed}: name one, such as {example}.")
    return chosen[0]


def _parts(folder: Path) -> list[_Part]:
    """Every split of every configuration in a folder."""
    saved = _json(folder / "dataset_dict.json")
    if isinstance(saved, dict) and isinstance(saved.get("splits"), list):
        names = [name for name in saved["splits"] if isinstance(name, str) and _is_name(name)]
        return [part for name in names if (part := _saved(folder / name, name))]
    if part := _saved(folder, TRAIN):
        return [part]
    return _described(folder) or _found(folder)


def _saved(folder: Path, split: str) -> _Part | None:
    """What `datasets.save_to_disk` wrote into a folder, as its state.json lists it."""
    state = _json(folder / "state.json")
    listed = state.get("_data_files") if isinstance(state, dict) else None
    if not isinstance(listed, list):
        return None
    if state.get("_indices_data_files"):
        raise DataError(
            f"{folder} holds rows and a choice among them, as older versions of datasets saved it: "
            "write it once more with flatten_indices().save_to_disk(…)."
        )
    names = [str(one.get("filename", "")) for one in listed if isinstance(one, dict)]
    for name in names:
        if not (_is_name(name) and (folder / name).is_file()):
            raise DataError(f"{folder / name}, which state.json names, is missing: fetch it again.")
    return _Part(_DEFAULT, split, tuple(folder / name for name in names)) if names else None


def _is_name(name: str) -> bool:
    """Whether it names something in a folder, and nothing outside of it."""
    return bool(name) and name not in (".", "..") and not set(name) & {"/", "\\", ":", "\0"}


def _described(folder: Path) -> list[_Part]:
    """The configurations that the head of a dataset's README.md lists."""
    head = re.match(r"---\s*\n(.*?)\n---", _text(folder / "README.md"), re.DOTALL)
    if head is None:
        return []
    import yaml  # the Hub's client brings it along

    try:
        card = yaml.safe_load(head[1])
    except (yaml.YAMLError, RecursionError, ValueError):
        return []
    configs = card.get("configs") if isinstance(card, dict) else None
    parts: list[_Part] = []
    for config in configs if isinstance(configs, list) else ():
        if isinstance(config, dict):
            parts += _of_card(folder, config)
    return parts


def _of_card(folder: Path, config: dict[str, Any]) -> Iterator[_Part]:
    name = config.get("config_name", _DEFAULT)
    given = config.get("data_files")
    splits = [{"split": TRAIN, "path": given}] if isinstance(given, str) else given
    for one in splits if isinstance(splits, list) else ():
        patterns = one.get("path") if isinstance(one, dict) else None
        listed = [patterns] if isinstance(patterns, str) else patterns
        files: list[Path] = []
        for pattern in listed if isinstance(listed, list) else ():
            if isinstance(pattern, str) and ".." not in PurePosixPath(pattern).parts:
                files += _matching(folder, pattern)
        if files and isinstance(one, dict):
            split = str(one.get("split", TRAIN))
            yield _Part(str(name), split, tuple(dict.fromkeys(sorted(files))))


def _matching(folder: Path, pattern: str) -> list[Path]:
    try:
        return [file for file in islice(folder.glob(pattern), _MOST_FILES) if _is_data(file)]
    except (ValueError, NotImplementedError):  # no pattern, or an absolute one
        return []


def _found(folder: Path) -> list[_Part]:
    """The files of data in a folder and in what is in it, by the splits that their names say;
    where none says one, all of them."""
    files = sorted(filter(_is_data, islice(_walk(folder), _MOST_FILES)))
    named = [(file, split) for file in files if (split := _split_of(file, folder))]
    if not named:
        return [_Part(_DEFAULT, TRAIN, tuple(files))] if files else []
    parts: dict[tuple[str, str], list[Path]] = {}
    for file, split in named:
        where = file.parent.relative_to(folder).parts
        inner = [part for part in where if part != "data" and part not in _WORDS]
        parts.setdefault(("/".join(inner) or _DEFAULT, split), []).append(file)
    return [_Part(config, split, tuple(own)) for (config, split), own in parts.items()]


def _walk(folder: Path, depth: int = 3) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir() and not entry.is_symlink():
            if depth:
                yield from _walk(entry, depth - 1)
        else:
            yield entry


def _is_data(file: Path) -> bool:
    name = file.name.lower()
    for packed in PACKED_SUFFIXES:
        name = name.removesuffix(packed)
    return Path(name).suffix in _SUFFIXES and file.name not in _NOT_DATA and file.is_file()


def _split_of(file: Path, folder: Path) -> str | None:
    """The split that a file's name says, or that of the folder it is in."""
    stem = file.name.partition(".")[0]
    if shard := _SHARD.fullmatch(stem):
        return _WORDS.get(shard[1].lower(), shard[1])
    for name in (stem, *reversed(file.parent.relative_to(folder).parts)):
        for word in re.split(r"[\W_]+", name.lower()):
            if word in _WORDS:
                return _WORDS[word]
    return None


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path) or "null")
    except (ValueError, RecursionError):
        return None


def _text(path: Path) -> str:
    """The beginning of a file, "" where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_TEXT).decode("utf-8", "replace")
    except OSError:
        return ""
