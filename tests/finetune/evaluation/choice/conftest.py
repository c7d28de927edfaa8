"""Small models and files of questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.gguf import GGUFFile

Rows = Sequence[dict[str, Any]]
WORDS = ("river", "stone", "lamp", "green", "seven", "music", "paper", "cold", "train", "salt")


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as a JSONL file of that name."""

    def write(name: str, rows: Rows) -> Path:
        path = tmp_path / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def random_rows() -> Callable[..., list[dict[str, Any]]]:
    """Rows of random words: `count` questions of `options` options, of other lengths each, the
    first of which is right."""

    def rows(count: int, options: int = 4, seed: int = 0) -> list[dict[str, Any]]:
        random = np.random.default_rng(seed)

        def text(words: int) -> str:
            return " ".join(random.choice(WORDS, words))

        return [
            {
                "question": f"Item {number}: {text(8)}?",
                "options": [
                    f"{text(1 + (number + option) % 3)} {option}" for option in range(options)
                ],
                "label": 0,
            }
            for number in range(count)
        ]

    return rows


@pytest.fixture(scope="module")
def engine(small: GGUFFile) -> Iterator[LocalEngine]:
    """The OpenChat-shaped model in float32, narrow."""
    engine = LocalEngine(EngineOptions(small.path, context=512))
    yield engine
    engine.close()
