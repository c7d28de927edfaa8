"""`/versions`, `/arena`, `/rollback`: looked at, used, taken back, judged, deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import numpy as np
import pytest
from textual.widgets import OptionList, Static

from openchat_local.app.chats import ChatStore, StoredMessage
from openchat_local.app.chats.votes import Side
from openchat_local.app.learning.findings import ClassLosses, Compared, Findings, kept_findings
from openchat_local.app.learning.versions import in_use
from openchat_local.app.tui.questions.confirm import Confirm
from openchat_local.app.tui.questions.line import AskLine
from openchat_local.app.tui.screens.arena import ArenaScreen
from openchat_local.app.tui.screens.learn import LearnScreen
from openchat_local.app.tui.screens.versions import VersionsScreen
from openchat_local.app.tui.widgets.learn_panel import LearnPanel
from openchat_local.finetune.evaluation.statistics import Interval
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.library.adapters import AdapterLibrary
from support.adapters import expert_card, write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.versions import install
from support.window import OpenWindow, Window

Stored = Callable[[], list[StoredMessage]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(
        tmp_path_factory.mktemp("versions") / "tiny.gguf", openchat_vocabulary(), name="tiny",
        context=512, blocks=1, embedding=64, heads=2, kv_heads=1, feed_forward=64,
        precision=np.float32,
    )  # fmt: skip


@pytest.fixture(scope="module")
def adapter(tiny: Path) -> Path:
    path = tiny.with_name("adapter.gguf")
    return write_random_adapter(path, tiny, size=0.2, card=expert_card(tiny))


@pytest.fixture
def tiny_engine(tiny: Path) -> Iterator[LocalEngine]:
    with closing(LocalEngine(EngineOptions(tiny, context=512, threads=1))) as engine:
        yield engine


@pytest.fixture
def library(home: Path, tiny: Path, adapter: Path) -> AdapterLibrary:
    """Three versions: two from the model, one from the other, which scored worse."""
    home.mkdir()
    (home / "config.toml").write_text(f"# mine\nmodel = {str(tiny)!r}\n[tui]\n")
    install(home, "first", adapter, counts={"expert": 30, "middle": 12}, begun=1.76e9)
    install(home, "猫 and a name".replace(" ", "-").replace("猫", "cat"), adapter, begun=1.761e9)
    install(home, "second", adapter, parent="first", begun=1.762e9)
    library = AdapterLibrary(home / "adapters")
    for name, change in (("first", -0.22), ("second", 0.2)):
        losses = Compared(20, 300, 2.0, 2.0 + change, Interval(change - 0.1, change + 0.1))
        classes = (ClassLosses("expert", "Expert", losses),)
        found = Findings(name, 1.0, "tiny", 1.76e9, None, classes, None)
        library.note(name, {"findings": found.as_json()})
    return library


def rows(window: Window) -> list[str]:
    return [str(option.prompt) for option in window.app.screen.query_one(OptionList).options]


def text(window: Window, part: str) -> str:
    return str(window.app.screen.query_one(part, Static).content)


@asynccontextmanager
async def versions_of(window: Window) -> AsyncIterator[None]:
    await window.send("/versions")
    await window.until(lambda: isinstance(window.app.screen, VersionsScreen) and rows(window))
    yield
    await window.pilot.press("escape")
    await window.until(lambda: not isinstance(window.app.screen, VersionsScreen))


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_the_versions_are_a_tree_with_what_they_are_worth(
    open_window: OpenWindow, library: AdapterLibrary, size: tuple[int, int]
) -> None:
    async with open_window(size=size) as window, versions_of(window):
        lines = rows(window)
        assert [line.split()[:2] for line in lines[1:]] == [
            ["├─", "first"], ["│", "└─"], ["└─", "cat-and-a-name"],
        ]  # fmt: skip
        assert "1.25× as likely" in lines[1]
        assert "scored worse" in lines[2]
        assert "not judged" in lines[3]
        assert all(line.rstrip()[-10:].count("-") == 2 for line in lines[1:])
        assert {len(line) for line in lines} == {min(size[0], 120) - 6}
        await window.pilot.press("down")
        await window.until(lambda: "30 expert, 12 middle" in text(window, "#about"))
        assert "does better than the model as it is" in text(window, "#about")
        assert "report.html" in text(window, "#about")
        await window.pilot.press("down")
        await window.until(lambda: "from first" in text(window, "#about"))
        assert "it does worse" in text(window, "#about")


async def test_used_and_brought_back_with_a_key(
    open_window: OpenWindow,
    library: AdapterLibrary,
    tiny_engine: LocalEngine,
    home: Path,
    stored: Stored,
) -> None:
    before = (home / "config.toml").read_bytes()
    async with open_window(tiny_engine, max_tokens=4) as window:
        await window.until(lambda: window.status.model)
        async with versions_of(window):
            await window.pilot.press("down", "enter", "enter")  # twice is once
            await window.until(lambda: "first answers in new chats" in text(window, "#said"))
            await window.until(lambda: "● in use" in rows(window)[1])
        assert in_use() == "first"
        await window.until(lambda: window.status.model == "tiny + first · Expert")
        await window.send("Hello")
        await window.answered()

        async with versions_of(window):  # the cursor is on what is in use
            await window.pilot.press("down", "enter")
            await window.until(lambda: isinstance(window.app.screen, Confirm))
            await window.pilot.press("n")
            await window.until(lambda: "Nothing was changed" in text(window, "#said"))
            assert in_use() == "first"
            await window.pilot.press("enter")
            await window.until(lambda: isinstance(window.app.screen, Confirm))
            await window.pilot.press("y")
            await window.until(lambda: "second answers" in text(window, "#said"))
            await window.until(lambda: "● in use" in rows(window)[2])
            await window.pilot.press("r")
            await window.until(lambda: "● in use" in rows(window)[1])
        await window.until(lambda: window.status.model == "tiny + first · Expert")

        await window.pilot.press("f12")
        await window.until(lambda: window.status.model == "tiny · GPT4 Correct")
        assert (home / "config.toml").read_bytes() == before
        await window.send("Hello again")
        await window.answered()
        await window.send("/rollback")
        await window.until(lambda: "nothing to go back to" in window.pane.notice.text)
        await window.pilot.press("ctrl+n")
        await window.send("In a new chat")
        await window.answered()
    replies = [message for message in stored() if message.role == "assistant"]
    assert {reply.adapter for reply in replies} == {None, "first"}
    assert len([reply for reply in replies if reply.adapter == "first"]) == 1


async def test_deleted_while_it_answers(
    open_window: OpenWindow,
    library: AdapterLibrary,
    tiny_engine: LocalEngine,
    home: Path,
    stored: Stored,
) -> None:
    async with open_window(tiny_engine, max_tokens=4) as window:
        await window.until(lambda: window.status.model)
        await window.send("/adapter first")
        await window.until(lambda: window.status.model == "tiny + first · Expert")
        await window.send("Hello")
        await window.answered()
        async with versions_of(window):
            await window.pilot.press("down", "d")
            await window.until(lambda: isinstance(window.app.screen, Confirm))
            question = str(window.app.screen.query_one(Static).content)
            assert "the adapter first and its training run in" in question
            assert "What was trained from it stays: second." in question
            await window.pilot.press("escape")
            await window.until(lambda: "Nothing was deleted" in text(window, "#said"))
            await window.pilot.press("d")
            await window.until(lambda: isinstance(window.app.screen, Confirm))
            await window.pilot.press("y")
            await window.until(lambda: "first was deleted, with its run" in text(window, "#said"))
            await window.until(lambda: len(rows(window)) == 3)
        await window.until(lambda: window.status.model == "tiny · GPT4 Correct")
        await window.send("Hello again")
        await window.answered()
    assert library.names() == ["cat-and-a-name", "second"]
    assert not (home / "runs" / "first").exists()
    assert (home / "runs" / "second" / "run.json").exists()
    assert [reply.adapter for reply in stored() if reply.role == "assistant"] == ["first", None]


async def test_scaled_and_judged(
    open_window: OpenWindow,
    library: AdapterLibrary,
    tiny_engine: LocalEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("openchat_local.app.learning.forgetting.REPLY_TOKENS", 4)
    async with open_window(tiny_engine) as window:
        async with versions_of(window):
            await window.until(lambda: window.pane.loader.loaded)
            await window.pilot.press("down", "down", "down", "s")
            await window.until(lambda: isinstance(window.app.screen, AskLine))
            await window.pilot.press(*"0,5", "enter")
            await window.until(lambda: "multiplied by 0.5" in text(window, "#said"))
            assert library.scale("cat-and-a-name") == 0.5
            await window.pilot.press("s")
            await window.until(lambda: isinstance(window.app.screen, AskLine))
            await window.pilot.press(*"none", "enter")
            await window.until(lambda: "is no number" in text(window, "#said"))
            await window.pilot.press("j")
            await window.until(lambda: "was judged." in text(window, "#said"))
            await window.until(lambda: "not judged" not in rows(window)[3])
        await window.until(lambda: "was judged" in window.pane.notice.text)
    found = kept_findings(library.facts("cat-and-a-name"))
    assert found is not None
    assert found.scale == 0.5


async def test_the_votes_and_training_on_are_handed_on(
    open_window: OpenWindow, library: AdapterLibrary
) -> None:
    async with open_window() as window:
        await window.send("/versions")
        await window.until(lambda: isinstance(window.app.screen, VersionsScreen) and rows(window))
        await window.pilot.press("a")
        await window.until(lambda: isinstance(window.app.screen, ArenaScreen))
        await window.until(lambda: "There is no vote yet" in text(window, "#meaning"))
        await window.pilot.press("escape")
        await window.until(lambda: isinstance(window.app.screen, VersionsScreen))
        await window.pilot.press("down", "t")
        await window.until(lambda: isinstance(window.app.screen, LearnScreen))
        panel = window.app.screen.query_one(LearnPanel).query_one(OptionList)
        await window.until(lambda: any("first" in str(row.prompt) for row in panel.options))
        await window.pilot.press("escape")


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_the_arena(open_window: OpenWindow, home: Path, size: tuple[int, int]) -> None:
    sides = [Side(name, "tiny", None if name == "base" else name) for name in ("base", "猫 cat")]
    store = ChatStore.open(home)
    chat = store.new_chat(title="t")
    for number in range(9):
        prompt = store.add_message(
            chat.id, None, "user", f"Why \x1b[2J is 猫 {number}?\n\nTell me."
        )
        replies = [
            store.add_message(chat.id, prompt.id, "assistant", word) for word in ("one", "two")
        ]
        choice = "second" if number < 5 else ("first", "tie", "bad", "skip")[number - 5]
        ids = (replies[0].id, replies[1].id)
        store.add_vote(chat.id, prompt.id, (sides[0], sides[1]), ids, choice)  # type: ignore[arg-type]
    store.close()
    async with open_window(size=size) as window:
        await window.send("/arena")
        await window.until(lambda: isinstance(window.app.screen, ArenaScreen) and rows(window))
        best, other = text(window, "#standings").splitlines()
        assert best.startswith("猫 cat ")
        assert "5 won    1 lost    1 tied" in best
        assert "1 won    5 lost    1 tied" in other
        assert ("●" in best) == (size[0] > 80)
        said = text(window, "#meaning")
        assert "nobody is ahead that chance might not have put there" in said
        assert "Fewer than 20 votes" in said
        assert "Said nothing of one beside the other: 2 votes." in said
        lines = rows(window)
        assert len(lines) == 9
        assert "base and 猫 cat: skipped" in lines[0]
        assert "base worse than 猫 cat" in lines[-1]
        assert "Why ␛[2J is 猫 0?" in lines[-1]
        assert not any("\x1b" in line for line in lines)
        await window.pilot.press("down", "escape")
        await window.until(lambda: not isinstance(window.app.screen, ArenaScreen))
