"""A hub on loopback with a small model on it, and a library to pull it into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openchat_local.models.hub.client import Hub, Patience
from openchat_local.models.hub.pull import Event, pull
from openchat_local.models.hub.reference import parse_wanted
from openchat_local.models.library import InstalledModel, ModelLibrary
from support.hub import FILE, REPOSITORY, FakeHub, fake_hub
from support.openchat_gguf import openchat_vocabulary, write_model

Pull = Callable[..., InstalledModel]


@pytest.fixture(scope="session")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole model of 3 MB."""
    path = tmp_path_factory.mktemp("content") / "tiny.gguf"
    write_model(path, openchat_vocabulary(), embedding=32, heads=2, kv_heads=1, blocks=1)
    return path.read_bytes()


@pytest.fixture
def hub(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The hub, with one quantisation of OpenChat 3.5 on it."""
    with fake_hub() as hub:
        hub.repositories[REPOSITORY] = {FILE: content, "README.md": b"# OpenChat"}
        for name, value in hub.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_HOME", "/nonexistent")  # the token of whoever runs the tests
        yield hub


@pytest.fixture
def library(tmp_path: Path) -> ModelLibrary:
    return ModelLibrary(tmp_path / "models")


@pytest.fixture
def events() -> list[Event]:
    """What the last pull told."""
    return []


@pytest.fixture
def pulling(hub: FakeHub, library: ModelLibrary, events: list[Event]) -> Pull:
    """Pull what a name means, with the patience of a moment."""

    def work(name: str = "openchat-3.5", **changes: float) -> InstalledModel:
        patience = {"tries": 3, "first_wait": 0.01, "longest_wait": 0.05, "stall": 10.0} | changes
        client = Hub(Patience(**patience))  # type: ignore[arg-type]
        return pull(client, parse_wanted(name), library, events.append)

    return work
