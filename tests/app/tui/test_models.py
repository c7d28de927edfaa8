"""Models in the window: switched while a chat goes on, fetched while one writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList, Static

from openchat_local.app.chats import ChatStore, StoredMessage
from openchat_local.app.tui.screens.models import ModelsScreen
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.library import ModelLibrary
from support.hub import FILE, REPOSITORY, Answer, FakeHub, fake_hub
from support.openchat_gguf import openchat_vocabulary, write_model
from support.window import OpenWindow, Window

Stored = Callable[[], list[StoredMessage]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 5 MB that answers nonsense."""
    folder = tmp_path_factory.mktemp("tiny")
    return write_model(
        folder / "tiny.F16.gguf", openchat_vocabulary(), embedding=64, heads=2, kv_heads=1, blocks=1
    )


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as hub:
        hub.repositories[REPOSITORY] = {FILE: tiny.read_bytes()}
        for name, value in (hub.environment() | {"HF_HOME": str(tmp_path / "hf")}).items():
            monkeypatch.setenv(name, value)
        yield hub


def rows(window: Window) -> list[str]:
    """The lines of the models screen."""
    options = window.app.screen.query_one(OptionList).options
    return [" ".join(str(option.prompt).split()) for option in options]


def below(window: Window) -> str:
    """What stands below them."""
    return str(window.app.screen.query_one(Static).content)


async def open_models(window: Window) -> None:
    await window.pilot.press("ctrl+o")
    await window.until(lambda: isinstance(window.app.screen, ModelsScreen) and rows(window))
    await window.pilot.pause()


async def replied(window: Window, prompt: str, replies: int = 1) -> None:
    """Send a prompt and wait for the last of so many replies: the tiny model is too fast to be
    seen writing."""
    await window.send(prompt)
    ended = "— ended at the token limit —"
    await window.until(lambda: window.screen_text().count(ended) == replies)


async def fetch(window: Window, answer: str = "y") -> None:
    """Have the highlighted model fetched, or think better of it."""
    await window.pilot.press("enter")
    await window.until(lambda: "from the Hugging Face hub" in below(window))
    await window.pilot.press(answer)


async def test_another_model_answers_without_leaving_the_chat(
    open_window: OpenWindow, own_engine: LocalEngine, stored: Stored, home: Path, tiny: Path
) -> None:
    ModelLibrary(home / "models").add(tiny, "mine")
    async with open_window(own_engine, max_tokens=6) as window:
        await replied(window, "Name three animals.")
        await open_models(window)
        assert rows(window)[0] == "starter 98.4 MB fits in use"
        assert rows(window)[1].startswith("mine:F16 ")
        await window.pilot.press("down")
        await window.until(lambda: "GiB of memory" in below(window))
        await window.pilot.press("enter")
        await window.until(lambda: "mine:F16 answers from here on" in window.pane.notice.text)
        await window.until(lambda: window.status.model == "mine:F16 · GPT4 Correct")
        await replied(window, "And three more.", 2)

        await window.send("/model nonsense")
        await window.until(lambda: "no model named 'nonsense'" in window.pane.notice.text)
        assert window.status.model == "mine:F16 · GPT4 Correct"
        await window.send("/model starter")
        await window.until(lambda: "starter answers from here on" in window.pane.notice.text)
        assert own_engine.loads == 3
    replies = [message for message in stored() if message.role == "assistant"]
    assert [(reply.model, reply.template) for reply in replies] == [
        ("starter", "chatml"),
        ("mine:F16", "openchat-3.5"),
    ]
    store = ChatStore.open(home)
    assert [(chat.model, chat.adapter) for chat in store.chats()] == [("starter", "none")]
    store.close()


async def test_a_model_that_cannot_be_loaded_leaves_the_one_before(
    open_window: OpenWindow, own_engine: LocalEngine, home: Path, tiny: Path
) -> None:
    added = ModelLibrary(home / "models").add(tiny, "broken")
    added.path.write_bytes(tiny.read_bytes()[:-1000])
    async with open_window(own_engine, max_tokens=6) as window:
        await window.until(lambda: window.status.context)
        await window.send("/model broken")
        await window.until(lambda: "1000 bytes short" in window.pane.notice.text)
        assert window.status.context
        assert window.status.model == "starter"
        assert own_engine.loads == 1
        await replied(window, "Name three animals.")


async def test_a_window_without_a_model_gets_one(open_window: OpenWindow, stored: Stored) -> None:
    async with open_window(max_tokens=6) as window:
        await window.send("/model starter")
        await window.until(lambda: "starter answers from here on" in window.pane.notice.text)
        await replied(window, "Name three animals.")
    assert stored()[-1].model == "starter"


async def test_a_model_is_fetched_stopped_and_goes_on(
    open_window: OpenWindow, hub: FakeHub, home: Path, tiny: Path
) -> None:
    hub.content = [Answer(after=2_000_000, stall=True)]
    async with open_window(size=(80, 24)) as window:
        await open_models(window)
        await window.pilot.press("down")
        await fetch(window, "n")
        await window.until(lambda: isinstance(window.app.screen, ModelsScreen))
        assert hub.requests == []

        await fetch(window)
        await window.until(lambda: "2.0 of 5.0 MB" in below(window))
        assert "openchat-3.5:Q4_K_M ━" in below(window)
        await window.pilot.press("c")
        hub.may_go_on.set()
        await window.until(lambda: "fetching it again continues from there" in below(window))
        await window.until(lambda: any(row.endswith("% here") for row in rows(window)))
        (part,) = (home / "models" / ".parts").glob("*.part")
        kept = part.stat().st_size
        assert 0 < kept <= 2_000_000

        await fetch(window)
        await window.until(lambda: "is installed and verified" in below(window))
        assert hub.content_requests()[-1].headers["range"] == f"bytes={kept}-"
        await window.pilot.press("escape")
        await window.until(lambda: "/model openchat-3.5:Q4_K_M" in window.pane.notice.text)
    installed = ModelLibrary(home / "models").existing("openchat-3.5")
    assert installed.path.read_bytes() == tiny.read_bytes()


async def test_fetching_goes_on_while_one_chats_and_ends_with_the_window(
    open_window: OpenWindow, hub: FakeHub, engine: LocalEngine
) -> None:
    hub.content = [Answer(after=1_000_000, stall=True)]
    async with open_window(engine, max_tokens=6) as window:
        await open_models(window)
        await window.pilot.press("down")
        await fetch(window)
        await window.until(hub.stalled.is_set)
        await window.pilot.press("escape")
        await replied(window, "Name three animals.")
        hub.may_go_on.set()
        await window.until(lambda: "is installed and verified" in window.pane.notice.text)


@pytest.mark.parametrize(
    ("answer", "offline", "said"),
    [
        (Answer(401, {"X-Error-Code": "GatedRepo"}), "", "accept them at huggingface.co/"),
        (Answer(404, {"X-Error-Code": "RepoNotFound"}), "", "has no repository"),
        (Answer(), "1", "needs the network, which OPENCHAT_LOCAL_OFFLINE shuts off"),
    ],
)
async def test_what_goes_wrong_is_a_sentence(
    answer: Answer, offline: str, said: str, open_window: OpenWindow, hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("OPENCHAT_LOCAL_OFFLINE", offline)
    hub.api = [answer]
    async with open_window() as window:
        await open_models(window)
        await window.pilot.press("down")
        await fetch(window)
        await window.until(lambda: said in below(window))
        assert window.app.screen.query_one(Static).has_class("-error")
        await window.pilot.press("escape")
        assert said in window.pane.notice.text


async def name_another(window: Window, text: str) -> None:
    """Write into the line below the list, and press Enter."""
    await open_models(window)
    await window.pilot.press("tab")
    window.app.screen.query_one(Input).value = text
    await window.pilot.press("enter")


async def test_any_repository_of_the_hub_can_be_fetched_by_its_reference(
    open_window: OpenWindow, hub: FakeHub, home: Path
) -> None:
    async with open_window(size=(80, 24)) as window:
        await name_another(window, f"hf:{REPOSITORY}")
        await window.until(lambda: f"from the Hugging Face hub, {REPOSITORY}" in below(window))
        assert hub.requests == []
        await window.pilot.press("y")
        await window.until(lambda: "is installed and verified" in below(window))
    assert ModelLibrary(home / "models").models()


async def test_a_file_is_used_by_its_path_and_stays_where_it_is(
    open_window: OpenWindow, home: Path, tiny: Path
) -> None:
    async with open_window(max_tokens=6) as window:
        await name_another(window, str(tiny))
        await window.until(lambda: "It stays where it is" in below(window))
        await window.pilot.press("y")
        await window.until(lambda: "answers from here on" in window.pane.notice.text)
    (model,) = ModelLibrary(home / "models").models()
    assert model.is_link
    assert tiny.is_file()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("hf:nobody", "is not a place on the hub"),
        ("gpt-5", "no known model named 'gpt-5'"),
        ("/nowhere/model.gguf", "There is no file"),
    ],
)
async def test_what_is_no_model_is_said_below_the_list(
    typed: str, said: str, open_window: OpenWindow
) -> None:
    async with open_window() as window:
        await name_another(window, typed)
        await window.until(lambda: said in below(window))
