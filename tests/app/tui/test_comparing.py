"""Two answer every prompt, and the user says blind which is better."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore, Side, StoredMessage
from openchat_local.app.learning.pacing import FEWEST
from openchat_local.app.tui.chat.comparing import Comparing
from openchat_local.app.tui.questions.verdict import AskVerdict
from openchat_local.app.tui.screens.chat import ChatScreen
from openchat_local.app.tui.widgets.chat_list import ChatList
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.library.adapters import AdapterLibrary
from support.adapters import expert_card, write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.window import OpenWindow, Window

NAMES = ("mine", "yours")
MANY = 4000
"""Tokens that are not written before somebody has pressed a key."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_model(path, openchat_vocabulary(), embedding=64, heads=2, kv_heads=1, blocks=1)


@pytest.fixture(scope="module")
def files(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An adapter for each name, so strong that it writes otherwise."""
    folder = tmp_path_factory.mktemp("adapters")
    return [
        write_random_adapter(
            folder / f"{name}.gguf", tiny, number, size=0.4, card=expert_card(tiny)
        )
        for number, name in enumerate(NAMES)
    ]


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(EngineOptions(tiny, threads=1))
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def adapters(home: Path, files: list[Path]) -> AdapterLibrary:
    library = AdapterLibrary(home / "adapters")
    for name, file in zip(NAMES, files, strict=True):
        library.add(name, file)
    return library


@pytest.fixture
def on_disk(home: Path) -> Iterator[ChatStore]:
    """The store of another window on the same home."""
    store = ChatStore.open(home)
    yield store
    store.close()


def comparing(window: Window) -> Comparing:
    screen = window.app.screen_stack[0]
    assert isinstance(screen, ChatScreen)
    return screen._comparing


async def begin(window: Window, words: str = "mine yours") -> None:
    await window.send(f"/compare {words}")
    await window.until(lambda: "From here on two answer" in window.pane.notice.text)


async def asked(window: Window) -> None:
    """Wait until the pair waits for its vote."""
    await window.until(lambda: window.pane.asked is not None)
    await window.pilot.pause()


async def writing(window: Window) -> None:
    """Wait until something of both is on the screen."""
    await window.until(lambda: comparing(window)._pacing.shown > FEWEST)


async def told(window: Window, words: str) -> None:
    await window.until(lambda: words in window.pane.notice.text)


def replies(store: ChatStore) -> list[StoredMessage]:
    (chat,) = store.chats()
    return [each for each in store.messages(chat.id) if each.role == "assistant"]


def shown(window: Window) -> tuple[str, str]:
    """What stands in both panes, blank rows left out."""
    first, second = (
        "\n".join(filter(None, (pane.render_line(y).text.strip() for y in range(pane.size.height))))
        for pane in window.pane.pair.panes
    )
    return first, second


def frame(window: Window) -> list[list[tuple[str, str]]]:
    """All that is on the screen beside the list of chats, with its styles, but for the rows of the
    two panes."""
    screen, left = window.app.screen, window.pane.region.x
    texts = [pane.region for pane in window.pane.pair.panes]
    rows = []
    for y, strip in enumerate(screen._compositor.render_strips()):
        cells = [(character, str(segment.style)) for segment in strip for character in segment.text]
        for region in texts:
            if region.y <= y < region.bottom:
                cells[region.x : region.right] = [("", "")] * region.width
        rows.append(cells[left:])
    return rows


def styles(window: Window, side: int) -> set[str]:
    """How text looks in a pane."""
    pane = window.pane.pair.panes[side]
    rows = [pane.render_line(y) for y in range(pane.size.height)]
    return {str(segment.style) for row in rows for segment in row if segment.text.strip()}


async def test_both_answer_and_the_vote_reveals_who_was_who(
    open_window: OpenWindow, engine: LocalEngine, on_disk: ChatStore
) -> None:
    async with open_window(engine, max_tokens=6) as window:
        comparing(window).swaps = lambda: True
        await begin(window)
        await window.send("Which one?")
        await asked(window)
        first, second = replies(on_disk)
        assert (first.adapter, second.adapter) == ("yours", "mine")
        assert first.sampling == second.sampling
        assert first.sampling is not None
        assert isinstance(first.sampling["seed"], int)
        assert (first.content.strip(), second.content.strip()) == shown(window)
        assert first.content != second.content
        assert window.status.model == "mine or yours?"

        await window.send("2")
        await told(window, "You preferred mine; the other one was yours. Vote 1 of 10.")
        assert "‹ 2/2 ›  tiny + mine · Expert" in window.screen_text()
        assert not window.pane.pair.shown
        (vote,) = on_disk.votes()
        assert (vote.choice, vote.first.label, vote.second.label) == ("second", "yours", "mine")
        assert vote.first.adapter_digest
        assert vote.first.model_digest
        (chat,) = on_disk.chats()
        assert on_disk.branch(chat.id)[-1].id == second.id
        assert chat.draft == ""

        await window.send("/compare off")
        await told(window, "One answers again. Of 1 vote, mine was better once, yours never")
        await window.send("And now?")
        await window.answered()
        assert replies(on_disk)[-1].siblings == 1


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_nothing_on_the_screen_tells_which_is_which(
    open_window: OpenWindow, engine: LocalEngine, size: tuple[int, int]
) -> None:
    seen = []
    async with open_window(engine, max_tokens=12, size=size) as window:
        for swapped in (False, True):
            comparing(window).swaps = lambda swapped=swapped: swapped
            await window.send("/temporary")
            await begin(window)
            await window.send("Which one?")
            await asked(window)
            first, second = window.pane.pair._frames
            assert first.region.size == second.region.size or size[0] < 100
            assert (first.region.y == second.region.y) == (size[0] >= 100)
            assert first.classes == second.classes
            assert styles(window, 0) == styles(window, 1)
            seen.append((frame(window), shown(window)))
    (frame_of_one, texts), (frame_of_other, swapped_texts) = seen
    assert frame_of_one == frame_of_other
    assert texts == swapped_texts[::-1]
    assert texts[0] != texts[1]


async def test_a_prompt_that_begins_with_a_digit_is_no_vote_and_waits_for_one(
    open_window: OpenWindow, engine: LocalEngine, on_disk: ChatStore
) -> None:
    async with open_window(engine, max_tokens=4) as window:
        await begin(window)
        await window.send("Which one?")
        await asked(window)
        await window.pilot.press("1")
        assert "Enter: 1 is better" in str(window.pane.pair._hint.render())
        await window.pilot.press(*" more")
        assert "Which is better?" in str(window.pane.pair._hint.render())
        await window.pilot.press("enter")
        await told(window, "Say first which of the two replies is better")
        assert on_disk.votes() == []

        await window.send("=")
        await told(window, "1 was")
        await asked(window)
        assert window.pane.transcript.turns[-1].content == "1 more"

        # With the focus on a reply a key alone is enough.
        window.pane.pair.panes[1].focus()
        await window.pilot.press("0")
        await told(window, "1 was")
        assert [each.choice for each in on_disk.votes()] == ["tie", "bad"]
        assert [each.rating for each in replies(on_disk)[2:]] == [-1, -1]

        # Esc takes what was meant back with the question.
        window.pane.prompt.focus()
        await window.send("And who?")
        await asked(window)
        await window.pilot.press("1", "escape")
        await told(window, "1 was")
        await window.until(lambda: not window.pane.pair.shown)
        assert window.pane.prompt.text == ""
        assert [each.vote for each in replies(on_disk)[4:]] == ["skip", "skip"]

        # Enter twice, and a vote on what was voted on: neither is a prompt.
        window.pane.prompt.focus()
        await window.pilot.press("enter", "1", "enter")
        await told(window, "There is no pair to vote on")
        assert [each.choice for each in on_disk.votes()] == ["tie", "bad", "skip"]
        assert len(replies(on_disk)) == 6


async def test_a_pair_is_voted_on_before_its_end_or_given_up(
    open_window: OpenWindow, engine: LocalEngine, on_disk: ChatStore
) -> None:
    async with open_window(engine, max_tokens=MANY) as window:
        await begin(window)
        await window.send("Which one?")
        await writing(window)
        await window.send("1")
        await told(window, "You preferred")
        assert [each.finish_reason for each in replies(on_disk)] == ["cancelled"] * 2
        assert [each.choice for each in on_disk.votes()] == ["first"]

        await window.send("And now?")
        await writing(window)
        await window.pilot.press("escape")
        await told(window, "there is no vote on them")
        await window.until(lambda: not window.pane.busy)
        given_up = replies(on_disk)[2:]
        assert [each.vote for each in given_up] == [None, None]
        assert all(each.content for each in given_up)
        assert len(on_disk.votes()) == 1
        assert not window.pane.pair.shown

        await window.send("And then?")
        await writing(window)
        await window.pilot.press("ctrl+d")
        await told(window, "is deleted")
        await window.until(lambda: not window.pane.busy)
        await window.pilot.press("ctrl+z")
        await told(window, "is back")
        assert [each.finish_reason for each in replies(on_disk)[4:]] == ["cancelled"] * 2
        assert on_disk.votes()[0].choice == "first"
        assert not window.pane.pair.shown


async def test_a_pair_goes_on_while_another_chat_is_open_and_waits_there(
    open_window: OpenWindow, engine: LocalEngine, on_disk: ChatStore
) -> None:
    async with open_window(engine, max_tokens=60) as window:
        await begin(window)
        await window.send("Which one?")
        await window.pilot.press("ctrl+n")
        await window.until(lambda: window.pane.both is None)
        assert not window.pane.pair.shown
        assert window.pane.asked is None
        await window.send("One alone?")
        await window.answered()
        window.app.screen.query_one(ChatList).action_cursor_down()
        chat_id = next(each.id for each in on_disk.chats() if each.title == "Which one?")
        window.app.screen.post_message(ChatList.Picked(chat_id))
        await asked(window)
        assert window.status.activity == "waits for your vote"

        # Another window is quicker.
        vote = on_disk.pair_of(window.pane.asked.first_reply_id) if window.pane.asked else None
        assert vote is not None
        on_disk.vote(vote.id, "second")
        await window.send("1")
        await told(window, "voted on already, perhaps in another window")
        await window.until(lambda: not window.pane.pair.shown)
        assert [each.choice for each in on_disk.votes()] == ["second"]
        assert window.pane.transcript.turns[-1].id == vote.second_reply_id


async def test_what_a_program_that_died_left_is_voted_on_and_tells_nothing_before(
    open_window: OpenWindow, home: Path, engine: LocalEngine
) -> None:
    dead = ChatStore.open(home)
    chat = dead.new_chat(title="Left")
    prompt = dead.add_message(chat.id, None, "user", "Which one?")
    sides = Side("mine", "tiny", "mine"), Side("tiny", "tiny")
    _, *both = dead.begin_pair(chat.id, prompt.id, sides)
    for reply, text in zip(both, ("Left of all.", "Right of all."), strict=True):
        dead.finish_reply(reply.id, text, "stop", usage={"generated_tokens": 77})
    dead._instance.close()
    async with open_window(engine) as window:
        window.app.screen.post_message(ChatList.Picked(chat.id))
        await asked(window)
        assert shown(window) == ("Left of all.", "Right of all.")
        svg = window.app.export_screenshot()
        assert "mine" not in svg
        assert "77" not in window.screen_text()
        await window.send("s")
        await told(window, "1 was mine, 2 was tiny.")
        assert "tiny + mine" in window.screen_text()


async def test_an_engine_that_dies_leaves_both_as_far_as_they_came(
    open_window: OpenWindow, tiny: Path, on_disk: ChatStore
) -> None:
    own = LocalEngine(EngineOptions(tiny, threads=1))
    async with open_window(own, max_tokens=MANY) as window:
        await begin(window)
        await window.send("Which one?")
        await writing(window)
        assert own.pid is not None
        os.kill(own.pid, signal.SIGKILL)
        await told(window, "Both replies are kept as far as they came")
        await window.until(lambda: not window.pane.busy)
        assert [each.finish_reason for each in replies(on_disk)] == ["engine died"] * 2
        assert all(each.content for each in replies(on_disk))
        assert [each.vote for each in replies(on_disk)] == [None, None]
        await window.send("/compare off")
        await told(window, "One answers again. No vote says yet")
    own.close()


async def test_after_enough_votes_the_better_one_is_kept(
    open_window: OpenWindow,
    engine: LocalEngine,
    on_disk: ChatStore,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENCHAT_LOCAL_LEARNING__VOTES", "1")
    monkeypatch.setenv("OPENCHAT_LOCAL_MODEL", str(tiny))
    async with open_window(engine, max_tokens=4) as window:
        await begin(window, "")
        assert "yours and tiny" in window.pane.notice.text  # the newest, and what answers now
        await window.send("Which one?")
        await asked(window)
        await window.send("s")
        await told(window, "1 was")
        assert on_disk.votes()[0].choice == "skip"
        comparing(window).swaps = lambda: False
        await window.send("And now?")
        await asked(window)
        await window.send("1")
        await window.until(lambda: isinstance(window.app.screen, AskVerdict))
        await window.pilot.press("down", "enter")
        await window.until(lambda: window.status.model == "tiny + yours · Expert")
        await told(window, "yours answers in new chats from now on, and in this one")
        await window.send("/adapter none")
        await told(window, "without an adapter")


async def test_who_can_be_compared(
    open_window: OpenWindow, engine: LocalEngine, adapters: AdapterLibrary, on_disk: ChatStore
) -> None:
    async with open_window(engine, max_tokens=4) as window:
        for words, answer in (
            ("mine mine", "one and the same"),
            ("mine yours base", "Two are compared, and 3 given"),
            ("mine theirs", "no adapter named 'theirs'"),
            ('mine "condition', "not closed"),
            ("mine adapter=mine,temperature=1", "a sampling of its own"),
            ("off", "Nothing is compared in this chat"),
        ):
            await window.send(f"/compare {words}")
            await told(window, answer)
        await begin(window, 'base "condition=Math Correct"')
        await window.send("/temporary")
        await begin(window, 'mine "adapter=mine,condition=Math Correct"')
        await window.send("Which one?")
        await asked(window)
        await window.send("2")
        await told(window, "Vote 1 of 10")
        assert on_disk.votes() == []
        assert on_disk.chats() == []
        adapters.remove("mine")
        await window.send("And now?")
        await told(window, "no adapter named 'mine'")
        await window.send("")
        await window.answered()
        assert not comparing(window).is_on
