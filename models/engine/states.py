"""KV states on disk: reopening a long chat costs a read instead of a prefill.

One state a chat and model: `<chat>.<model>.kv`, written by llama.cpp, and beside it
`<chat>.<model>.json`, which says what is in it. A state is used only if everything that
made it is the same and its bytes are the ones that were written; else it is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

_CHAT_KEY = re.compile(r"[A-Za-z0-9-]{1,64}")
_STALE_PART_SECONDS = 3600.0
FORMAT = 3


@dataclass(frozen=True, slots=True)
class SavedState:
    """What the sidecar says: the token ids of the state, in order, the chunks that they were
    decoded in, and the size in bytes and BLAKE2b digest of the data. The first `exact` tokens
    are what a context of their own would hold, to the last bit; None for all of them."""

    tokens: list[int]
    chunks: list[list[int]]
    size: int
    digest: str
    exact: int | None = None


class StateStore:
    """The states of one model (with its adapter and template, all in `model_key`)."""

    def __init__(self, folder: Path, budget: int, model_key: str) -> None:
        """`budget` in bytes, for all states of all models in `folder` together."""
        self.folder = folder
        self.budget = budget
        self.model_key = hashlib.blake2b(model_key.encode(), digest_size=8).hexdigest()

    def find(self, chat_key: str) -> SavedState | None:
        """What is known of the chat's state; its data is not read yet.

        With a budget of 0 nothing is kept, and what is left from before is not read.
        """
        if not self.budget:
            return None
        data, sidecar = self.data_path(chat_key), self._sidecar(chat_key)
        try:
            fields = json.loads(sidecar.read_text("ascii"))
            if fields.pop("format") != FORMAT:
                return None
            state = SavedState(**fields)
            if not all(0 <= start < end <= len(state.tokens) for start, end in state.chunks):
                return None
            return state if data.stat().st_size == state.size else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def verified_path(self, chat_key: str, state: SavedState) -> Path | None:
        """The data file if its bytes are those that were written, and marks it as used."""
        path = self.data_path(chat_key)
        try:
            intact = _digest(path) == state.digest
            if intact:
                os.utime(path)
        except OSError:
            return None
        if not intact:
            self.drop(chat_key)
            return None
        return path

    def save(
        self,
        chat_key: str,
        tokens: list[int],
        chunks: list[list[int]],
        size: int,
        write: Callable[[Path], int],
        *,
        exact: int | None = None,
    ) -> bool:
        """Store a state of about `size` bytes; `write(path)` writes it and returns its size.

        False when it would exceed the budget or leave the disk nearly full; raises OSError.
        """
        if size > self.budget:
            return False
        _make_private(self.folder)
        self._sweep()
        self._evict(self.budget - size, spare=None)
        usage = shutil.disk_usage(self.folder)
        if usage.free - size < max(1024**3, usage.total // 20):
            return False
        path = self.data_path(chat_key)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            _create_private(part)
            written = write(part)
            if written <= 0:
                return False
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            data = part.stat().st_size, _digest(part)
            state = SavedState(tokens, chunks, *data, exact)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        _write_atomically(self._sidecar(chat_key), json.dumps({"format": FORMAT} | asdict(state)))
        self._evict(self.budget, spare=path)
        return True

    def drop(self, chat_key: str) -> None:
        """Remove the chat's state of this model."""
        self._sidecar(chat_key).unlink(missing_ok=True)
        self.data_path(chat_key).unlink(missing_ok=True)

    def data_path(self, chat_key: str) -> Path:
        if not _CHAT_KEY.fullmatch(chat_key):
            raise ValueError(f"a chat key has letters, digits and dashes only: {chat_key!r}")
        return self.folder / f"{chat_key}.{self.model_key}.kv"

    def _sidecar(self, chat_key: str) -> Path:
        return self.data_path(chat_key).with_suffix(".json")

    def _evict(self, limit: int, spare: Path | None) -> None:
        """Remove the least recently used states until all together are at most `limit` bytes."""
        files = [(path.stat(), path) for path in self.folder.glob("*.kv")]
        total = sum(status.st_size for status, _ in files)
        for status, path in sorted(files, key=lambda item: item[0].st_mtime):
            if total <= limit:
                return
            if path != spare:
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                total -= status.st_size

    def _sweep(self) -> None:
        """Remove what a killed writer left behind."""
        for part in self.folder.glob("*.part"):
            with contextlib.suppress(OSError):
                if time.time() - part.stat().st_mtime > _STALE_PART_SECONDS:
                    part.unlink()


def forget_chat(folder: Path, chat_key: str) -> None:
    """Remove the chat's states of every model, for good."""
    if not _CHAT_KEY.fullmatch(chat_key):
        raise ValueError(f"a chat key has letters, digits and dashes only: {chat_key!r}")
    for path in folder.glob(f"{chat_key}.*"):
        path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _make_private(folder: Path) -> None:
    # The tokens of a conversation are the conversation. On Windows the user's own
    # data folder is private already, and the mode is ignored.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _create_private(path: Path) -> None:
    # Whoever writes to it next finds it there, and its mode stays. (Windows ignores the mode.)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))


def _write_atomically(path: Path, text: str) -> None:
    part = path.with_suffix(f".{os.getpid()}.json.part")
    try:
        _create_private(part)
        with part.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
