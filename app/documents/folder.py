"""The files of a folder that may be read: none that is hidden, ignored or behind a link."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from openchat_local.app.documents.document import Unreadable
from openchat_local.app.documents.ignored import Rule, is_ignored, rules

MOST_FILES = 2000
MOST_ENTRIES = 20_000
DEEPEST = 32
LARGEST_TEXT_FILE = 1_000_000  # bytes
LARGEST_DOCUMENT = 50_000_000  # bytes
_NOBODY_WROTE = frozenset({"__pycache__", "node_modules"})


@dataclass(frozen=True, slots=True)
class File:
    """A file below a folder. `name` is its path from there, with slashes; `stamp` is another one
    once the file has changed."""

    name: str
    path: Path
    size: int
    stamp: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a folder holds that may be read, by name, and how much is left out for which reason."""

    files: tuple[File, ...]
    left_out: tuple[tuple[str, int], ...] = ()


def walk(folder: Path, wanted: Callable[[], bool] = lambda: True) -> Listing:
    """The files of a folder, those of its own folders included; or of a single file, that. Links
    are not followed, so none leads in a circle or out of the folder. Raises Unreadable for a
    folder that cannot be read, or that is the whole disk or home."""
    if folder.is_file():
        status = folder.stat()
        stamp = status.st_mtime_ns, status.st_size
        return Listing((File(folder.name, folder, status.st_size, stamp),))
    whole = folder.resolve()
    if whole == Path(whole.anchor) or whole == Path.home():
        raise Unreadable("is all that you have here", "attach a folder in it")
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})", "correct its permissions") from None
    files: list[File] = []
    left_out: Counter[str] = Counter()
    for found in _walk(folder, left_out):
        if not wanted():
            break
        if len(files) == MOST_FILES:
            left_out[f"beyond the first {MOST_FILES:,}"] += 1
        else:
            files.append(found)
    files.sort(key=lambda file: file.name)
    return Listing(tuple(files), tuple(left_out.items()))


def _walk(folder: Path, left_out: Counter[str]) -> Iterator[File]:
    waiting: list[tuple[Path, str, tuple[tuple[str, tuple[Rule, ...]], ...]]] = [(folder, "", ())]
    seen = 0
    while waiting:
        inside, prefix, above = waiting.pop()
        ignoring = (*above, (prefix, _rules_of(inside)))
        for entry in _entries(inside):
            seen += 1
            if seen > MOST_ENTRIES:
                left_out["not looked at: the folder is too large"] += 1
                return
            name = prefix + entry.name
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                left_out["unreadable"] += 1
                continue
            is_folder = stat.S_ISDIR(status.st_mode)
            if entry.name.startswith(".") or entry.name in _NOBODY_WROTE:
                left_out["hidden"] += 1
            elif is_ignored(name, is_folder, ignoring):
                left_out["ignored"] += 1
            elif stat.S_ISLNK(status.st_mode):
                left_out["behind links"] += 1
            elif is_folder:
                if name.count("/") < DEEPEST:
                    waiting.append((Path(entry.path), f"{name}/", ignoring))
            elif not stat.S_ISREG(status.st_mode):
                left_out["devices or pipes"] += 1
            elif status.st_size:
                stamp = (status.st_mtime_ns, status.st_size)
                yield File(name, Path(entry.path), status.st_size, stamp)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _rules_of(folder: Path) -> tuple[Rule, ...]:
    path = folder / ".gitignore"
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return ()
        with path.open("rb") as file:
            return rules(file.read(100_000).decode("utf-8", "replace"))
    except OSError:
        return ()
