"""Two answer every prompt, and the user says blind which is better."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore, StoredMessage, Vote
from openchat_local.app.tui.screens.chat import ChatScreen
from openchat_local.app.tui.widgets.transcript import Transcript
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.library.adapters import AdapterLibrary
from support.adapters import expert_card, write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.window import OpenWindow, Window

NAMES = ("mine", "yours")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_model(path, openchat_vocabulary(), embedding=64, heads=2, kv_heads=1, blocks=1)


@pytest.fixture(scope="module")
def tiny_engine(tiny: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(EngineOptions(tiny, context=512, threads=1))
    yield engine
    engine.close()


@pytest.fixture
def adapters(home: Path, tiny: Path, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        file = write_random_adapter(
            tmp_path / f"{name}.gguf", tiny, number + 1, size=0.4, card=expert_card(tiny)
        )
        AdapterLibrary(home / "adapters").add(name, file)


@pytest.fixture
def on_disk(home: Path) -> Iterator[ChatStore]:
    """The store of another window on the same home."""
    store = ChatStore.open(home)
    yield store
    store.close()


def comparing(window: Window):  # type: ignore[no-untyped-def]
    screen = window.app.screen_stack[0]
    assert isinstance(screen, ChatScreen)
    return screen._comparing


async def asked(window: Window) -> None:
    """Wait until the pair waits for its vote."""
    await window.until(lambda: window.pane.asked is not None)


async def compare(window: Window, words: str = "mine yours", prompt: str = "Which one?") -> None:
    await window.send(f"/compare {words}")
    await window.until(lambda: "From here on two answer" in window.pane.notice.text)
    await window.send(prompt)
    await asked(window)


def pair_text(window: Window) -> tuple[str, str]:
    first, second = (
        "\n".join(pane.render_line(y).text.strip() for y in range(pane.size.height))
        for pane in window.pane.pair.panes
    )
    return first.strip(), second.strip()


def replies(store: ChatStore) -> list[StoredMessage]:
    (chat,) = store.chats()
    return [each for each in store.messages(chat.id) if each.role == "assistant"]


async def test_both_answer_and_the_vote_reveals_who_was_who(
    open_window: OpenWindow, tiny_engine: LocalEngine, adapters: None, on_disk: ChatStore
) -> None:
    async with open_window(tiny_engine, max_tokens=6) as window:
        comparing(window).swaps = lambda: True
        await compare(window)
        first, second = replies(on_disk)
        assert (first.adapter, second.adapter) == ("yours", "mine")
        assert first.sampling == second.sampling
        assert (first.content, second.content) == pair_text(window)
        assert first.content != second.content
        assert window.status.model == "mine or yours?"

        await window.send("2")
        await window.until(lambda: "You preferred mine" in window.pane.notice.text)
        assert "the other one was yours. Vote 1 of 10." in window.pane.notice.text
        assert "‹ 2/2 ›  tiny + mine · Expert" in window.screen_text()
        assert not window.pane.pair.shown
        (vote,) = on_disk.votes()
        assert (vote.choice, vote.first.label, vote.second.label) == ("second", "yours", "mine")
        assert vote.first.adapter_digest
        assert vote.first.model_digest
        (chat,) = on_disk.chats()
        assert on_disk.branch(chat.id)[-1].id == second.id
        assert [each.vote for each in replies(on_disk)] == ["other", "chosen"]
