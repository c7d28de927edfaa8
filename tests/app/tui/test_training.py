"""A run that learns, in the window: followed, shown, steered, and its end told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.widgets import OptionList

from openchat_local.app.tui.chat.training import Training
from openchat_local.app.tui.questions.closing import LeaveLearning
from openchat_local.app.tui.screens.chat import ChatScreen
from openchat_local.app.tui.screens.training import TrainingScreen
from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.run.background import (
    BackgroundRun,
    background_runs,
    begin_in_background,
)
from openchat_local.finetune.run.beginning import begin_run
from openchat_local.finetune.run.events import (
    BackgroundEvent,
    Closed,
    Failed,
    Halted,
    NoticeEvent,
    Phase,
    WentOn,
)
from openchat_local.finetune.run.registry import Registry
from openchat_local.finetune.run.settings import RunSettings
from support.background import Told, at_work, begun, data_read, done, ready, step, tried
from support.openchat_gguf import openchat_vocabulary, write_model
from support.window import OpenWindow, Window

HALF = [
    Phase("starting"),
    data_read("good", "bad"),
    ready(),
    tried(0, 2.0, 3.0),
    *(step(number, 2.0 - number / 10, 3.0) for number in range(1, 5)),
    tried(4, 1.5, 3.0),
]
REST = [*(step(number, 1.5, 3.0) for number in range(5, 9)), tried(8, 1.0, 3.0), done()]


@pytest.fixture
def told(home: Path) -> Told:
    home.mkdir()
    return begun(home, "my-voice", "good", "bad")


@pytest.fixture
def learning(told: Told) -> Iterator[Told]:
    """A run at half of its steps, which a process has in hand: this one."""
    with at_work(told):
        told.tell(*HALF)
        yield told


def shown(window: Window) -> str:
    """What stands on the whole screen."""
    strips = window.app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


def training(window: Window) -> Training:
    screen = window.app.screen_stack[0]
    assert isinstance(screen, ChatScreen)
    return screen.training


async def close(window: Window) -> None:
    """Close the window over whatever learns."""
    training(window).asks = False
    await window.app.run_action("quit")


async def test_the_status_bar_has_a_word_of_it_until_its_end_was_looked_at(
    open_window: OpenWindow, home: Path
) -> None:
    async with open_window() as window:
        await window.pilot.pause()
        assert window.status.learning == ""
        told = begun(home, "my-voice", "good", "bad")

        async def says(word: str, *events: BackgroundEvent) -> None:
            told.tell(*events)
            training(window).begun()  # which it would do by itself in a second
            await window.until(lambda: window.status.learning == word)

        with at_work(told):
            told.tell(Phase("starting"))
            await window.until(lambda: window.status.learning == "learning: preparing")
            await says("learning: 50 %, 8 s left", *HALF[1:])
            await says("learning: 50 %, giving way", Halted("giving way"))
            await says("learning: paused, 50 %", WentOn(1.0), Halted("paused"))
            await says("learning: finishing", WentOn(1.0), *REST)
            told.tell(Closed("my-voice", "It fell."))
        await window.until(lambda: window.status.learning == "learned: /compare")
        assert "50 % less surprising than before. /compare" in window.pane.notice.text
        await window.send("/training")
        await window.until(lambda: isinstance(window.app.screen, TrainingScreen))
        await window.until(lambda: "done  step 8 of 8" in shown(window))
        await window.until(lambda: window.status.learning == "")
        assert background_runs(home) == []
        assert "50 % less surprising than before" in shown(window)


async def test_an_end_that_no_window_saw_is_told_at_the_next_start(
    open_window: OpenWindow, told: Told
) -> None:
    told.tell(*HALF, *REST, Closed("my-voice", "It fell."))
    async with open_window() as window:
        await window.until(lambda: "my-voice is learned." in window.pane.notice.text)
        assert window.status.learning == "learned: /compare"
        await window.send("/compare")
        await window.until(lambda: window.status.learning == "")


async def test_its_screen_shows_how_far_it_is_and_what_that_means(
    open_window: OpenWindow, learning: Told
) -> None:
    learning.tell(NoticeEvent(4, "Out of \x1b[31mmemory: [b]halved[/b]."))
    async with open_window(size=(80, 24)) as window:
        await window.until(lambda: window.status.learning)
        await window.pilot.press("ctrl+l")
        await window.until(lambda: "50 %  learning  step 4 of 8  about 8 s left" in shown(window))
        text = shown(window)
        assert "finds your good answers (good) 25 % less surprising" in text
        assert "200 tokens/s · 1.0 GiB of memory · learning rate 2.0e-04" in text
        assert "Out of ␛[31mmemory: [b]halved[/b]." in text
        assert "good 1.60" in text
        assert "P pauses · S stops and keeps it" in text
        many = [NoticeEvent(4, f"Notice number {number}.") for number in range(20)]
        learning.tell(*many)
        training(window).begun()
        await window.until(lambda: "Notice number 19." in shown(window))
        await window.pilot.press("pagedown", "pagedown", "pagedown")
        await window.until(lambda: "Notice number 0." in shown(window))
        await window.pilot.press("pageup", "pageup", "pageup")
        learning.tell(step(5, 1.5, 3.0))
        training(window).begun()
        await window.until(lambda: "step 5 of 8" in shown(window))
        await window.pilot.press("escape")
        await close(window)


@pytest.mark.parametrize(
    ("events", "says", "key"),
    [
        ([*HALF, Failed("RunError", "The disk is full: make room.")],
         "✗ The disk is full: make room.", "R goes on"),
        (HALF, "It was cut off", "R goes on"),
        ([*HALF, done("interrupted", 4), Closed("my-voice", "It fell.")],
         "Stopped early. The model finds your good answers (good) 25 % less", "R goes on"),
        ([data_read("all"), ready(), step(1, 2.0), done("finished", 1), Closed("my-voice", "?")],
         "Too few steps to tell anything; none were kept aside", "Esc closes"),
        ([Phase("starting"), Closed(None, "It was stopped before anything was learned.")],
         "It was stopped before anything was learned.", "Esc closes"),
    ],
)  # fmt: skip
async def test_however_it_ends_its_screen_says_so(
    open_window: OpenWindow, told: Told, events: list[BackgroundEvent], says: str, key: str
) -> None:
    told.tell(*events)
    async with open_window(size=(100, 30)) as window:
        await window.until(lambda: window.status.learning)
        await window.pilot.press("ctrl+l")
        await window.until(lambda: says in " ".join(shown(window).split()))
        assert key in shown(window)


async def test_earlier_runs_are_listed_and_shown(
    open_window: OpenWindow, learning: Told, home: Path
) -> None:
    old = begun(home, "[b]旧", "all", at=0.5)
    old.tell(data_read("all"), ready(), tried(0, 2.0), step(1, 1.9), tried(1, 1.0), done())
    old.run.write_settings(old.run.settings() | {"outcome": {"ending": "finished"}})
    Registry(home).forget(old.entry.id)
    async with open_window(size=(100, 30)) as window:
        await window.until(lambda: window.status.learning)
        await window.pilot.press("ctrl+l")
        await window.until(lambda: window.app.screen.query_one(OptionList).option_count == 2)
        await window.pilot.press("end", "enter")
        await window.until(lambda: "Learning: [b]旧" in shown(window))
        await window.until(lambda: "50 % less surprising" in shown(window))
        await window.pilot.press("p", "s")  # neither is for a run that has ended
        await window.pilot.press("home", "enter")
        await window.until(lambda: "Learning: my-voice" in shown(window))
        assert not list(learning.run.path.glob("*.asked"))
        await window.pilot.press("escape")
        await close(window)


async def test_without_any_run_the_screen_says_how_one_begins(open_window: OpenWindow) -> None:
    async with open_window(size=(80, 24)) as window:
        await window.pilot.press("ctrl+l")
        await window.until(lambda: "Nothing has been learned yet" in shown(window))
        await window.pilot.press("p", "s", "r", "enter")
        assert isinstance(window.app.screen, TrainingScreen)


async def test_the_window_asks_before_it_closes(open_window: OpenWindow, learning: Told) -> None:
    async with open_window() as window:
        await window.until(lambda: window.status.learning)
        await window.pilot.press("ctrl+q")
        await window.until(lambda: isinstance(window.app.screen, LeaveLearning))
        assert "my-voice is being learned (50 % done, 8 s left)" in shown(window)
        await window.pilot.press("escape")
        await window.until(lambda: not isinstance(window.app.screen, LeaveLearning))
        await window.pilot.press("ctrl+q")
        await window.until(lambda: isinstance(window.app.screen, LeaveLearning))
        await window.pilot.press("s")
        await window.until(lambda: not window.app.is_running)
    assert (learning.run.path / "stop.asked").exists()


@pytest.mark.parametrize("again", ["ctrl+q", "ctrl+c"])
async def test_asked_twice_it_closes_and_the_run_goes_on(
    open_window: OpenWindow, learning: Told, again: str
) -> None:
    async with open_window() as window:
        await window.until(lambda: window.status.learning)
        await window.pilot.press("ctrl+q")
        await window.until(lambda: isinstance(window.app.screen, LeaveLearning))
        await window.pilot.press(again)
        await window.until(lambda: not window.app.is_running)
    assert not list(learning.run.path.glob("*.asked"))


@pytest.fixture
def begin(home: Path, tmp_path: Path) -> Iterator[Callable[[], BackgroundRun]]:
    """Begins a run of a tiny model in a process of its own, longer than anybody waits."""
    base = write_model(
        tmp_path / "tiny.gguf", openchat_vocabulary(), embedding=64, feed_forward=128, kv_heads=2
    )
    data = tmp_path / "rows.jsonl"
    turns = ({"role": "user", "content": "Say red"}, {"role": "assistant", "content": "Red."})
    rows = ({"messages": turns, "id": number} for number in range(8))
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def begun_run() -> BackgroundRun:
        settings = RunSettings(
            "mine", base, data, backend="mlx", lora=LoraConfig(rank=2), steps=100_000,
            tokens_per_step=64, max_length=64,
        )  # fmt: skip
        fields = {"name": "mine", "settings": settings.as_json(), "begun": time.time()}
        return begin_in_background(begin_run(home / "runs" / "mine", fields), home=home)

    yield begun_run
    for run in background_runs(home):
        run.stop()


async def test_a_run_in_a_process_of_its_own_is_paused_and_stopped(
    open_window: OpenWindow, begin: Callable[[], BackgroundRun]
) -> None:
    async with open_window(size=(100, 30)) as window:
        run = begin()
        training(window).begun()
        await window.until(lambda: "learning: " in window.status.learning)
        await window.pilot.press("ctrl+l")
        await window.until(lambda: "  learning  step" in shown(window))
        await window.pilot.press("p")
        await window.until(lambda: "  paused  step" in shown(window))
        await window.pilot.press("p")
        await window.until(lambda: "  learning  step" in shown(window))
        await window.pilot.press("s")
        await window.until(lambda: "stopped early  step" in shown(window))
        assert "R goes on" in shown(window)
        assert run.state().phase == "ended"
        assert "mine: Stopped early." in window.pane.notice.text
