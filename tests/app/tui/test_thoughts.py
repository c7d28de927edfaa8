"""What a reply thinks: folded while it is written and after, opened with a key or a click."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Offset

from openchat_local.app.chats import StoredMessage
from openchat_local.app.tui.markdown.branch_layout import BranchLayout
from openchat_local.app.tui.widgets.blind_pair import BlindPair
from openchat_local.app.tui.widgets.options_panel import OptionsPanel
from openchat_local.app.tui.widgets.transcript import Transcript
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from support.scripted import SWITCHES, write_scripted
from support.turns import turn
from support.window import OpenWindow, Window

PIECES = ["<think>", "\nThe **user**", " asks 你好.\n", "\n- one", "\n- two\n", "</think>"]
PIECES += ["\n\nFour", " `<think>`", " it", " is."]
MARKS = {"thoughts": ["<think>", "</think>", ""]}
TEXT = "<think>\nFirst.\n\n- one\n- two\n</think>\n\nThe **answer**: `</think>`."


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    folder = tmp_path_factory.mktemp("thinker")
    path = write_scripted(folder / "thinker.gguf", PIECES, SWITCHES, otherwise=["Four!"])
    engine = LocalEngine(EngineOptions(path, context=1024, threads=1))
    yield engine
    engine.close()


def folded(window: Window) -> str:
    """The line that stands for thoughts."""
    rows = (row.removeprefix("┃ ") for row in window.screen_rows())
    return next((row for row in rows if row[:1] in ("▸", "▾")), "")


async def test_thoughts_are_folded_and_open_with_keys_and_a_click(
    open_window: OpenWindow, thinker: LocalEngine
) -> None:
    async with open_window(thinker) as window:
        await window.send("2+2?")
        await window.answered()
        assert folded(window).startswith("▸ thought, 6 tokens")
        assert "asks" not in window.screen_text()
        assert "Four <think> it is." in window.screen_text()
        assert "11 tokens (6 to think)" in window.screen_text()
        await window.pilot.press("alt+o")
        assert "│ The user asks 你好." in window.screen_text()
        assert "│ • one" in window.screen_text()
        await window.pilot.press("alt+up", "o")
        assert folded(window).startswith("▸")
        row = next(y for y, text in enumerate(window.screen_rows()) if "▸" in text)
        await window.pilot.click(window.pane.transcript, offset=Offset(4, row))
        assert folded(window).startswith("▾")


async def test_a_reply_stopped_in_its_thoughts_says_so_and_keeps_them(
    open_window: OpenWindow, thinker: LocalEngine, stored: Callable[[], list[StoredMessage]]
) -> None:
    async with open_window(thinker, max_tokens=3) as window:
        await window.send("2+2?")
        await window.answered()
        assert folded(window).startswith("▸ broke off while thinking, 3 tokens")
        assert stored()[-1].content == "".join(PIECES[:3])
        await window.pilot.press("alt+up", "y")
        await window.until(lambda: "This reply has no answer" in window.pane.notice.text)
        await window.pilot.press("escape", "f4")  # goes on in the middle of it
        await window.answered()
        assert stored()[-1].content == "".join(PIECES[:6])
        await window.pilot.press("alt+o")
        assert "│ • two" in window.screen_text()


async def test_a_chat_is_asked_for_replies_without_thoughts(
    open_window: OpenWindow, thinker: LocalEngine
) -> None:
    async with open_window(thinker) as window:
        await window.send("2+2?")
        await window.answered()
        await window.send("/think off")
        await window.until(
            lambda: "Thinking is off from the next reply on" in window.pane.notice.text
        )
        await window.send("Again?")
        await window.answered()
        assert "Four!" in window.screen_text()


async def test_a_model_that_cannot_be_asked_says_why(
    open_window: OpenWindow, engine: LocalEngine
) -> None:
    async with open_window(engine) as window:
        await window.until(lambda: window.pane.loader.loaded)
        await window.send("/think on")
        await window.until(lambda: "This model does not think" in window.pane.notice.text)
        await window.pilot.press("ctrl+t")
        panel = window.app.screen.query_one(OptionsPanel)
        await window.until(lambda: panel.options)
        row = next(each for each in panel.options if "thinking" in str(each.prompt))
        assert row.disabled
        assert "does not think" in str(row.prompt)


# Without a window


def rows(branch: BranchLayout) -> list[str]:
    places = (branch.layout.place(row) for row in range(branch.layout.rows))
    return ["".join(text for text, _ in branch.layout.runs(place)[0]).rstrip() for place in places]


def laid_out(turns: list[StoredMessage]) -> BranchLayout:
    branch = BranchLayout()
    branch.layout.lay_out(60)
    branch.show_turns(turns)
    return branch


@pytest.mark.parametrize("unfolded", [False, True], ids=["folded", "open"])
def test_a_growing_reply_is_laid_out_as_the_whole_is(unfolded: bool) -> None:
    done = turn(1, "assistant", TEXT, sampling=MARKS, finish_reason="stop")
    whole = laid_out([turn(0, "user", "Hi"), done])
    whole.fold(done.id, unfolded=unfolded)
    for size in (1, 2, 3, 7, 50):
        branch = laid_out([turn(0, "user", "Hi")])
        branch.begin_reply(turn(1, "assistant", "", sampling=MARKS))
        for at in range(0, len(TEXT), size):
            branch.add(TEXT[at : at + size])
            branch.show_added()
            if at == size and unfolded:
                branch.fold(done.id, unfolded=True)
        branch.end_reply(done)
        assert rows(branch) == rows(whole)
    assert ("│ • two" in rows(whole)) == unfolded


def test_while_it_thinks_the_line_counts() -> None:
    branch = laid_out([turn(0, "user", "Hi")])
    branch.begin_reply(turn(1, "assistant", "", sampling=MARKS))
    branch.note_thinking(213, 4.2)
    branch.add(TEXT[:20])
    branch.show_added()
    assert rows(branch)[-1].startswith("▸ thinking… 213 tokens, 4 s")
    branch.note_thinking(1640, 12.0)
    branch.add(TEXT[20:])
    branch.show_added()
    assert any(row.startswith("▸ thought for 12 s, 1,640 tokens") for row in rows(branch))


def test_marks_in_the_answer_of_a_model_that_does_not_think_are_text() -> None:
    done = turn(1, "assistant", "<think>\nA\n</think>\nB", sampling={"thoughts": []})
    assert not any(row.startswith("▸") for row in rows(laid_out([turn(0, "user", "Hi"), done])))
    unknown = turn(1, "assistant", "<think>\nA\n</think>\nB", sampling=None)
    assert any(row.startswith("▸") for row in rows(laid_out([turn(0, "user", "Hi"), unknown])))


class Pair(App[None]):
    """Two replies to be compared, and nothing else."""

    def compose(self) -> ComposeResult:
        yield BlindPair()


async def test_of_two_that_are_compared_each_opens_its_own() -> None:
    async with Pair().run_test(size=(120, 30)) as pilot:
        pair = pilot.app.query_one(BlindPair)
        pair.begin(turn(1, "assistant", "", sampling=MARKS))
        await pilot.pause()
        pair.grow((TEXT[:20], TEXT))
        first, second = pair.panes
        first.focus()
        await pilot.press("o")
        await pilot.click(second, offset=Offset(4, 1))
        for pane in pair.panes:
            assert any("│ First." in line for line in shown(pane))
        await pilot.click(second, offset=Offset(4, 1))
        assert not any("│" in line for line in shown(second))


def shown(pane: Transcript) -> list[str]:
    return [pane.render_line(y).text for y in range(pane.size.height)]
