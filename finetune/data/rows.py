"""Weighted token rows on disk: written once, mapped into memory, the same after a resume."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import overload

import numpy as np

from openchat_local.finetune.data.batches import Row

_IDS, _WEIGHTS, _INDEX = "ids.int32", "weights.float32", "index.npz"


class RowWriter:
    """Writes rows into `folder`, which is made; a `RowStore` can read them once it is closed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        (folder / _INDEX).unlink(missing_ok=True)  # without it, the folder counts as unfinished
        self._ids = (folder / _IDS).open("wb")
        self._weights = (folder / _WEIGHTS).open("wb")
        self._lengths, self._classes, self._lines = array("i"), array("i"), array("q")

    def append(self, row: Row) -> None:
        """Add one row."""
        self._ids.write(row.ids.astype("<i4").tobytes())
        self._weights.write(row.weights.astype("<f4").tobytes())
        self._lengths.append(len(row.ids))
        self._classes.append(row.class_index)
        self._lines.append(row.line)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ids.close()
        self._weights.close()
        if kind is None:
            np.savez(
                self._folder / _INDEX,
                lengths=np.array(self._lengths, np.int32),
                classes=np.array(self._classes, np.int32),
                lines=np.array(self._lines, np.int64),
            )


class RowStore(Sequence[Row]):
    """The rows in `folder`. `lengths`, `classes` (int32) and `lines` (int64) are (rows,)."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError if the folder was not written to its end."""
        with np.load(folder / _INDEX) as index:
            self.lengths: np.ndarray = index["lengths"]
            self.classes: np.ndarray = index["classes"]
            self.lines: np.ndarray = index["lines"]
        self._ends = np.cumsum(self.lengths, dtype=np.int64)
        self._ids = self._map(folder / _IDS, "<i4")
        self._weights = self._map(folder / _WEIGHTS, "<f4")

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        end = int(self._ends[index])
        start = end - int(self.lengths[index])
        return Row(
            self._ids[start:end],
            self._weights[start:end],
            int(self.classes[index]),
            int(self.lines[index]),
        )

    def _map(self, path: Path, dtype: str) -> np.ndarray:
        if not len(self):
            return np.zeros(0, dtype)  # an empty file cannot be mapped
        return np.memmap(path, dtype, "r", shape=(int(self._ends[-1]),))
