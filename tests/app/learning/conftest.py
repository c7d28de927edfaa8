"""A tiny model that the settings name, adapters for it, and its engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from support.adapters import expert_card, write_random_adapter
from support.openchat_gguf import byte_vocabulary, openchat_vocabulary, write_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float32, so that what is measured does not depend on how many rows are decoded at once."""
    return write_model(
        tmp_path_factory.mktemp("learning") / "tiny.gguf", openchat_vocabulary(), name="tiny",
        context=512, blocks=1, embedding=64, heads=2, kv_heads=1, feed_forward=64,
        precision=np.float32,
    )  # fmt: skip


@pytest.fixture(scope="session")
def adapter(tiny: Path) -> Path:
    """Large enough for every answer to feel it."""
    path = tiny.with_name("adapter.gguf")
    return write_random_adapter(path, tiny, size=0.2, card=expert_card(tiny))


@pytest.fixture(scope="session")
def adapter_of_another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of another model."""
    folder = tmp_path_factory.mktemp("another")
    model = write_model(folder / "m.gguf", byte_vocabulary(), blocks=1, embedding=32, heads=1,
                        kv_heads=1, feed_forward=32)  # fmt: skip
    return write_random_adapter(folder / "adapter.gguf", model, card=expert_card(model))


@pytest.fixture(scope="session")
def engine(tiny: Path) -> Iterator[LocalEngine]:
    with closing(LocalEngine(EngineOptions(tiny, context=512, threads=1))) as engine:
        yield engine


@pytest.fixture
def settings_file(home: Path, tiny: Path) -> Path:
    """One as people keep them: with comments, sections and an order of their own."""
    home.mkdir()
    path = home / "config.toml"
    path.write_bytes(
        f"# mine\r\nmodel = {str(tiny)!r}  # the small one\r\n\r\n[sampling]\r\n"
        "temperature = 0.2 # cool\r\n".encode()
    )
    return path
