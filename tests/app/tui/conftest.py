"""The real window, with or without an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.message import Message

from openchat_local.app.chats import ChatStore, StoredMessage
from openchat_local.app.settings.model import load_settings
from openchat_local.app.tui.app import ChatApp
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import Engine, EngineOptions
from openchat_local.models.errors import OpenChatError
from support.settling import install
from support.window import NO_ENGINE, OpenWindow, Window


@pytest.fixture(autouse=True)
async def settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pilot waits until the window has done all that it was told, and no longer."""
    install(monkeypatch)


@pytest.fixture
def open_window(home: Path) -> OpenWindow:
    """`async with open_window(engine) as window`; without an engine there is only the reason."""

    @asynccontextmanager
    async def opened(
        engine: Engine | OpenChatError = NO_ENGINE,
        *,
        size: tuple[int, int] = (120, 40),
        max_tokens: int = 40,
        theme: str | None = None,
    ) -> AsyncIterator[Window]:
        overrides: dict[str, Any] = {"sampling": {"temperature": 0.0, "max_tokens": max_tokens}}
        settings = load_settings(overrides | ({"tui": {"theme": theme}} if theme else {}))
        app = ChatApp(home, settings, engine)
        windows: list[Window] = []

        def hear(message: Message) -> None:
            for window in windows:
                window.hear(message)

        async with app.run_test(size=size, message_hook=hear) as pilot:
            window = Window(app, pilot)
            windows.append(window)
            await pilot.pause()
            yield window
            await app.run_action("quit")

    return opened


@pytest.fixture(scope="session")
def engine(starter_path: Path) -> Iterator[LocalEngine]:
    """The starter's engine, for all tests that leave its model and adapter as they are: loaded by
    the first that loads it."""
    engine = LocalEngine(EngineOptions(model_path=starter_path, context=2048))
    yield engine
    engine.close()


@pytest.fixture
def own_engine(starter_path: Path, home: Path) -> Iterator[LocalEngine]:
    """The starter's engine for one test, not yet started; it keeps its states in the home."""
    engine = LocalEngine(
        EngineOptions(model_path=starter_path, context=2048, states_dir=home / "states")
    )
    yield engine
    engine.close()


@pytest.fixture
def stored(home: Path) -> Callable[[], list[StoredMessage]]:
    """All messages of all chats, read from the file by another connection."""

    def read() -> list[StoredMessage]:
        store = ChatStore.open(home)
        try:
            return [message for chat in store.chats() for message in store.branch(chat.id)]
        finally:
            store.close()

    return read
