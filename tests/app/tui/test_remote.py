"""The window where another program answers, on this machine or on another."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from textual.widgets import OptionList

from openchat_local.app.chats import ChatStore, StoredMessage
from openchat_local.app.tui.screens.models import ModelsScreen
from openchat_local.app.tui.widgets.chat_list import ChatList
from openchat_local.app.tui.widgets.options_panel import OptionsPanel
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.engine.remote.engine import RemoteEngine
from support.openai_like import Bare, Exchange, bare_server
from support.other_program import Other, other_program, remote_engine
from support.programs import PROGRAM
from support.window import OpenWindow, Window

Stored = Callable[[], list[StoredMessage]]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Other]:
    """Our own server."""
    with other_program(tmp_path_factory.mktemp("other")) as other:
        yield other


@pytest.fixture
def bare() -> Iterator[Bare]:
    """A server that does what OpenAI's does, and no more."""
    with bare_server() as bare:
        yield bare


def elsewhere(bare: Bare) -> str:
    """Its URL by an address that is no loopback's, though it leads there."""
    if os.name == "nt":
        pytest.skip("Windows connects to no such address")
    return bare.url.replace("127.0.0.1", "0.0.0.0")


@pytest.fixture
def far(bare: Bare) -> Iterator[RemoteEngine]:
    """The same as an engine on another machine, as far as anybody can tell."""
    with closing(remote_engine(elsewhere(bare), label="far")) as engine:
        yield engine


async def loaded(window: Window) -> None:
    def answers() -> bool:
        found = window.pane.loader.loaded
        return found is not None and window.status.model.startswith(found.name)

    await window.until(answers)


def words(window: Window) -> str:
    """What stands in the transcript, in one line."""
    return " ".join(window.screen_text().split())


def panel(window: Window) -> str:
    options = window.app.screen.query_one(OptionsPanel).options
    return "\n".join(" ".join(str(option.prompt).split()) for option in options)


async def test_another_program_of_this_machine_answers(
    open_window: OpenWindow, other: Other, stored: Stored
) -> None:
    with closing(other.remote()) as engine:
        async with open_window(engine, max_tokens=8) as window:
            await loaded(window)
            name = engine.load().name
            assert f"another program on this machine, {other.url}/v1." in words(window)
            assert window.status.line(100).startswith(f"[local server]  {name} · GPT4 Correct")
            await window.send("Tell me a story.")
            await window.answered()
            prompt, reply = stored()
            counted = other.engine.count_tokens(_conversation(prompt, reply))
            await window.until(lambda: window.status.tokens == counted)
            assert (prompt.content, reply.model) == ("Tell me a story.", name)
            assert reply.sampling is not None
            assert reply.sampling["seed"] is None  # nobody can have it again
            assert reply.content == window.pane.transcript.turns[-1].content != ""
            await window.send("/adapter mine")
            await window.until(lambda: "openchat-tiny:mine@" in window.status.model)
            await window.send("/adapter theirs")
            await window.until(lambda: "it has mine" in window.pane.notice.text)
            with closing(ChatStore.open(window.app._home)) as store:
                assert (store.chats()[0].model or "").startswith("openchat-tiny:mine@")


def _conversation(*turns: StoredMessage) -> Conversation:
    return Conversation(tuple(Message(turn.role, turn.content) for turn in turns))


async def test_words_that_leave_this_machine_are_marked_and_sent_with_enter_alone(
    open_window: OpenWindow, bare: Bare, far: RemoteEngine
) -> None:
    bare.replies(lambda e: e.says("Hi!", usage={"prompt_tokens": 9, "completion_tokens": 2}))
    async with open_window(far) as window:
        await loaded(window)
        assert f"leaves this machine, for {elsewhere(bare)}." in words(window)
        for width in (100, 30, 12):
            assert window.status.line(width).startswith("[remote]")
        await window.write("A secret that nobody has ")
        await window.write("said yet, with @README.md")
        await window.pilot.pause()
        assert bare.chats == []
        assert {one.path for one in bare.asked} == {"/v1/models"}
        await window.pilot.press("enter")
        await window.until(lambda: window.ended)
        await window.until(lambda: window.status.tokens == 11)  # as the server counts
        assert len(bare.chats) == 1
        assert window.status.mark == "remote"


@pytest.mark.parametrize("kind", ["temporary", "private"])
async def test_nothing_of_a_private_chat_is_sent(
    open_window: OpenWindow, bare: Bare, far: RemoteEngine, kind: str, home: Path
) -> None:
    async with open_window(far) as window:
        await loaded(window)
        if kind == "temporary":
            await window.send("/temporary")
            await window.until(lambda: "ever written to disk" in words(window))
        else:
            await window.send("Hello?")
            await window.answered()
            await window.send("/private")
            await window.until(lambda: "This chat is private" in window.pane.notice.text)
        sent = len(bare.chats)
        await window.send("A secret")
        await window.until(
            lambda: "would leave this machine for 0.0.0.0" in window.pane.notice.text
        )
        assert window.pane.prompt.text == "A secret"
        await window.pilot.press("ctrl+a", "backspace")
        if kind == "private":
            await window.pilot.press("up", "r")
        assert len(bare.chats) == sent


async def test_a_chat_of_this_machine_leaves_it_only_when_it_is_asked_for_twice(
    open_window: OpenWindow, bare: Bare, far: RemoteEngine, home: Path
) -> None:
    home.mkdir(exist_ok=True)
    with closing(ChatStore.open(home)) as store:
        chat = store.new_chat(title="Diary", model="starter")
        store.add_message(chat.id, None, "user", "An old secret")
    async with open_window(far) as window:
        await loaded(window)
        await window.until(lambda: window.listed)
        window.app.screen.query_one(ChatList).focus()
        await window.pilot.press("home", "enter")
        await window.until(lambda: "An old secret" in window.screen_text())
        assert "leaves this machine" in window.pane.notice.text
        await window.send("And now?")
        await window.until(lambda: "So far this chat was not at 0.0.0.0" in window.pane.notice.text)
        assert bare.chats == []
        assert window.pane.prompt.text == "And now?"
        await window.pilot.press("enter")
        await window.until(lambda: window.ended)
        assert len(bare.chats) == 1
        await window.send("Go on.")  # it is known by now
        await window.until(lambda: len(bare.chats) == 2)
    with closing(ChatStore.open(home)) as store:
        assert store.chat(chat.id).model == "gpt@far"


async def test_what_cannot_be_had_there_is_told_with_the_reason(
    open_window: OpenWindow, bare: Bare
) -> None:
    with closing(remote_engine(bare.url, label="bare")) as engine:
        async with open_window(engine) as window:
            await loaded(window)
            await window.pilot.press("ctrl+t")
            shown = panel(window)
            for row in ("adapter", "condition", "top k", "thinking", "min p"):
                assert f"{row} not at 127.0.0.1:" in shown
            assert "temperature 0.0" in shown
            await window.pilot.press("ctrl+t")
            for command, reason in (
                ("/adapter mine", "Adapters are files of this machine"),
                ("/top-k 5", "knows no top-k"),
                ("/think off", "is not known to take a wish for thoughts"),
                ("/condition Math Correct", "knows no conditions"),
            ):
                await window.send(command)
                await window.until(lambda reason=reason: reason in window.pane.notice.text)
            await window.send("/condition none")
            await window.until(lambda: "The condition is none" in window.pane.notice.text)
            await window.send("Hello?")
            await window.answered()
            assert not {"top_k", "condition"} & bare.chats[0].body.keys()


async def test_a_reply_that_is_lost_or_stopped_is_kept_as_far_as_it_came(
    open_window: OpenWindow, bare: Bare, stored: Stored
) -> None:
    def lost(exchange: Exchange) -> None:
        exchange.begin_stream()
        exchange.delta(content="Once upon")
        exchange.break_off()

    def endless(exchange: Exchange) -> None:
        exchange.begin_stream()
        exchange.delta(content="There was")
        exchange.until_gone()

    with closing(remote_engine(bare.url)) as engine:
        async with open_window(engine) as window:
            await loaded(window)
            bare.replies(lost)
            await window.send("One")
            await window.answered()
            assert "what came is kept" in window.pane.notice.text
            assert "Once upon" in window.screen_text()
            bare.replies(endless)
            await window.send("Two")
            await window.until(lambda: "There was" in window.screen_text())
            await window.pilot.press("escape")
            await window.answered()
            await window.until(bare.gone.is_set)
            bare.replies(lambda exchange: exchange.says("The end."))
            await window.send("Three")
            await window.answered()
    replies = [(one.content, one.finish_reason) for one in stored() if one.role == "assistant"]
    assert replies == [
        ("Once upon", "engine died"), ("There was", "cancelled"), ("The end.", "stop")
    ]  # fmt: skip


async def test_one_of_another_program_is_compared_blind_with_the_model_that_is_here(
    open_window: OpenWindow, bare: Bare, other: Other, stored: Stored
) -> None:
    bare.replies(lambda exchange: exchange.says("A reply ", "from afar ", "of seven ", "words."))
    far = f"gpt@{elsewhere(bare)}"
    async with open_window(other.engine, max_tokens=8) as window:
        await loaded(window)
        assert window.status.mark == ""
        await window.send(f"/compare {far}")
        await window.until(lambda: "From here on two answer" in window.pane.notice.text)
        assert "leaves this machine" in window.pane.notice.text
        assert window.status.mark == "remote"
        await window.send("Which one?")
        await window.until(lambda: window.pane.asked is not None)
        assert len(bare.chats) == 1
        assert "condition" not in bare.chats[0].body
        texts = window.pane.pair.texts
        far_first = texts[0].startswith("A reply")
        assert texts[0 if far_first else 1] == "A reply from afar of seven words."
        await window.send("1" if far_first else "2")
        await window.until(lambda: f"You preferred {far}" in window.pane.notice.text)
        await window.send("/compare off")
        await window.until(lambda: window.status.mark == "")
    _, reply = stored()
    assert (reply.model, reply.adapter, reply.condition) == (far, None, "")


async def test_a_private_chat_is_compared_with_nobody_elsewhere(
    open_window: OpenWindow, bare: Bare, other: Other
) -> None:
    async with open_window(other.engine, max_tokens=8) as window:
        await loaded(window)
        await window.send("/temporary")
        await window.send(f"/compare gpt@{elsewhere(bare)}")
        await window.until(lambda: "From here on two answer" in window.pane.notice.text)
        await window.send("Which one?")
        await window.until(lambda: "This chat is private" in window.pane.notice.text)
        assert bare.chats == []


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
async def test_a_server_that_is_killed_in_mid_reply_answers_again_when_it_is_back(
    open_window: OpenWindow, other: Other, stored: Stored
) -> None:
    """Another process, as people have it."""

    def serve(port: int) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [*PROGRAM, "serve", "-m", other.model, "--port", str(port), "--context", "8192"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        found = re.search(r":(\d+)/v1 ", process.stdout.readline())
        assert found is not None
        return process, int(found[1])

    process, port = serve(0)
    try:
        with closing(remote_engine(f"127.0.0.1:{port}")) as engine:
            async with open_window(engine, max_tokens=0) as window:
                await loaded(window)
                await window.send("Tell me a story.")
                await window.until(lambda: window.pane.reply is not None and window.pane.reply.text)
                process.kill()
                await window.answered()
                assert "what came is kept" in window.pane.notice.text
                await window.send("Go on.")
                await window.answered()
                assert f"Nothing answers at 127.0.0.1:{port}" in window.pane.notice.text
                process.communicate()
                process, _ = serve(port)
                await window.pilot.press("ctrl+a", "backspace", "enter")  # the last one again
                await window.until(lambda: window.pane.reply is not None and window.pane.reply.text)
                await window.pilot.press("escape")
                await window.answered()
    finally:
        process.kill()
        process.communicate()
    replies = [one for one in stored() if one.role == "assistant"]
    assert [one.finish_reason for one in replies] == ["engine died", "cancelled"]
    assert all(one.content for one in replies)


async def test_a_named_engine_is_among_the_models_and_back(
    open_window: OpenWindow, bare: Bare, other: Other, home: Path
) -> None:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(f'[engines.far]\nurl = "{elsewhere(bare)}"\nmodel = "gpt"\n')
    local = LocalEngine(EngineOptions(other.model, threads=1, context=1024))
    with closing(local):
        async with open_window(local, max_tokens=4) as window:
            await loaded(window)
            await window.pilot.press("ctrl+o")
            await window.until(lambda: isinstance(window.app.screen, ModelsScreen))
            options = window.app.screen.query_one(OptionList)
            await window.until(lambda: options.options)
            lines = [" ".join(str(option.prompt).split()) for option in options.options]
            assert "gpt@far remote" in lines
            assert bare.asked == []
            options.highlighted = lines.index("gpt@far remote")
            await window.pilot.press("enter")
            await window.until(lambda: window.status.model == "gpt@far")
            assert window.status.mark == "remote"
            assert local.pid is None  # its memory is free again
            await window.send("Hello?")
            await window.answered()
            assert len(bare.chats) == 1
            await window.send(f"/model {other.model}")
            await window.until(lambda: "openchat-tiny" in window.status.model)
            await loaded(window)
            assert window.status.mark == ""
            await window.send("And here?")
            await window.answered()
            assert len(bare.chats) == 1
