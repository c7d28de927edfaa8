"""The real command in a real terminal: what is written to it, and what is not."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.finetune.run.events import Closed
from support.background import at_work, begun, done, ready, step, tried
from support.terminal import Terminal

READY = b"8,192"  # the context meter: the model is loaded


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def test_the_command_opens_answers_and_quits(terminal: Terminal, home: Path) -> None:
    terminal.wait_for(READY)
    terminal.press(b"Say hello.")
    terminal.read(0.3)
    terminal.press(b"\r")
    terminal.wait_for(b"tokens/s")
    terminal.press(b"\x11")  # Ctrl+Q
    assert terminal.process.wait(20) == 0
    store = ChatStore.open(home)
    (chat,) = store.chats()
    assert [message.role for message in store.branch(chat.id)] == ["user", "assistant"]
    store.close()


def test_what_is_sent_in_one_breath_with_a_new_chat_begins_it(home: Path) -> None:
    terminal = Terminal("--max-tokens", "2")
    try:
        terminal.wait_for(READY)
        store = ChatStore.open(home)
        for number in range(1, 6):
            terminal.press(f"{chr(14) * (number > 1)}Prompt {number}\r".encode())  # Ctrl+N
            deadline = time.monotonic() + 60
            while [chat for chat in store.chats() if chat.message_count == 2] != store.chats() or (
                sum(chat.message_count for chat in store.chats()) < 2 * number
            ):
                assert time.monotonic() < deadline, store.chats()
                terminal.read(0.05)
        assert len(store.chats()) == 5
        store.close()
    finally:
        terminal.close()


def test_an_idle_window_writes_nothing(terminal: Terminal) -> None:
    terminal.wait_for(READY)
    terminal.read(1.0)
    before = len(terminal.output)
    # Longer than the look for other windows, and than a cursor's blink.
    assert terminal.read(3.0) == b""
    assert len(terminal.output) == before


def test_the_terminal_never_gets_a_stored_control_sequence(home: Path) -> None:
    store = ChatStore.open(home)
    chat = store.new_chat(title="\x1b]0;evil\x07title")
    store.add_message(chat.id, None, "user", "\x1b[31mred \x9b5m")
    reply = store.begin_reply(chat.id, store.chat(chat.id).leaf_id, model="m")
    store.finish_reply(
        reply.id,
        "```\n\x1b]52;c;ZXZpbA==\x07\n```\n`\x1b[2J` <http://a/%1b[35mx> &#x9b;36m",
        "stop",
    )
    store.close()
    terminal = Terminal()
    try:
        terminal.wait_for(READY)
        terminal.wait_for("␛]0;evil".encode())  # its title: the list is there
        terminal.press(b"\x02\x02")  # the list away and back, which gives it the focus
        terminal.read(0.3)
        terminal.press(b"\x1b[B")
        terminal.read(0.3)
        terminal.press(b"\r")
        terminal.wait_for("␛]52;c".encode())
        terminal.wait_for("␛[35mx".encode())
        for sequence in (
            b"\x1b]0;evil",
            b"\x1b[35mx",
            b"\x9b36m",
            b"\x1b]52",
            b"\x1b[31mred",
            b"\x9b5m",
            b"\x1b[2J`",
        ):
            assert sequence not in terminal.output
    finally:
        terminal.close()


def test_a_killed_window_has_lost_nothing_that_stood_there_for_a_second(home: Path) -> None:
    # Asked this greedily, the starter goes round in circles until something stops it.
    terminal = Terminal("--max-tokens", "6000", "--temperature", "0")
    try:
        terminal.wait_for(READY)
        terminal.press(b"What is the capital of France?")
        terminal.read(0.3)
        terminal.press(b"\r")
        terminal.wait_for(b"tokens/s")
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            terminal.read(0.01)
        terminal.process.send_signal(signal.SIGKILL)
        terminal.process.wait()
    finally:
        terminal.close()
    store = ChatStore.open(home)
    (chat,) = store.chats()
    prompt, reply = store.branch(chat.id)
    assert prompt.content == "What is the capital of France?"
    assert reply.finish_reason == "interrupted"
    assert reply.content
    store.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_polite_signal_ends_the_window_as_a_key_would(
    terminal: Terminal, home: Path, number: signal.Signals
) -> None:
    terminal.wait_for(READY)
    terminal.press(b"unsent words")
    terminal.wait_for(b"words")
    terminal.process.send_signal(number)
    assert terminal.process.wait(20) == 0
    terminal.read(0.2)
    assert b"\x1b[?1049l" in terminal.output  # back from the alternate screen
    store = ChatStore.open(home)
    assert [chat.draft for chat in store.chats()] == ["unsent words"]
    store.close()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"TERM": "dumb"}, b"cannot show a window (TERM=dumb)"),
        ({"PYTHONIOENCODING": "latin-1"}, b"needs a terminal in UTF-8"),
    ],
)
def test_a_terminal_that_cannot_show_a_window_is_told_so(
    environment: dict[str, str], says: bytes
) -> None:
    terminal = Terminal(**environment)
    try:
        assert terminal.process.wait(30) == 1
        terminal.read(0.2)
        assert says in terminal.output
        assert b"\x1b" not in terminal.output
    finally:
        terminal.close()


def test_without_colour_none_is_written(home: Path) -> None:
    terminal = Terminal(
        "-m", "nowhere.gguf", NO_COLOR="1", COLORTERM="truecolor", LANG="C", LC_ALL="C"
    )
    try:
        terminal.wait_for(b"nowhere.gguf")
        terminal.press(b"\x02\x14/te")  # the list, the panel, what may follow
        terminal.read(0.5)
        coloured = re.findall(rb"\x1b\[[0-9;]*m", terminal.output)
        assert any(b"8;2;" in style for style in coloured)
        assert all(map(_is_grey, coloured))
        terminal.press(b"\x11")
        assert terminal.process.wait(20) == 0
    finally:
        terminal.close()


def _is_grey(style: bytes) -> bool:
    """Whether each colour that an escape sequence asks for has as much of red, green, blue."""
    return all(
        len({int(part) for part in colour.split(b";")}) == 1
        for colour in re.findall(rb"[34]8;2;(\d+;\d+;\d+)", style)
    )


def test_no_key_and_no_paste_ends_the_window_or_sends_half_a_prompt(home: Path) -> None:
    terminal = Terminal("-m", "nowhere.gguf")
    try:
        terminal.wait_for(b"nowhere.gguf")
        # An enhanced Enter, Alt+Enter, Latin-1, a key that is let go, a character that is none.
        terminal.press(b"one\x1b[13;2:1utwo\x1b\rthree\xe1\x1b[97;1:3u\x1b[9999999u")
        terminal.wait_for(b"three")
        terminal.press(b"\x1b[200~ \x1b[31mred\x1b[13;2:1u\r\n/quit now\r\x11\x1b[201")
        terminal.read(0.2)
        terminal.press(b"~ end")
        terminal.wait_for(b"/quit now")
        terminal.wait_for(b" end")
        terminal.press(b"\x11")
        assert terminal.process.wait(30) == 0
        assert b"\x1b[31mred" not in terminal.output
        store = ChatStore.open(home)
        (chat,) = store.chats()
        assert chat.message_count == 0
        assert chat.draft == ("one\ntwo\nthree\ufffd \x1b[31mred\x1b[13;2:1u\n/quit now\n\x11 end")
        store.close()
    finally:
        terminal.close()


def test_the_prompt_is_written_in_an_editor_of_ones_own(home: Path, tmp_path: Path) -> None:
    script = tmp_path / "my editor.py"
    script.write_text(
        "import os, sys, time\n"
        "path = sys.argv[1]\n"
        "before = open(path, encoding='utf-8').read()\n"
        "print('EDITOR HAS', before, oct(os.stat(os.path.dirname(path)).st_mode)[-3:])\n"
        "open(path + '~', 'w').write(before)\n"
        "input('until Enter')\n"
        "if 'broken' in before: sys.exit(3)\n"
        "open(path, 'a', encoding='utf-8').write('\\nand Łódź\\n')\n"
    )
    terminal = Terminal("-m", "nowhere.gguf", VISUAL="", EDITOR=f"'{sys.executable}' '{script}'")
    try:
        terminal.wait_for(b"check the path")  # or it would hide what is told later
        terminal.press(b"typed\x07")
        terminal.wait_for(b"until Enter")
        assert b"EDITOR HAS typed 700" in terminal.output
        terminal.press(b"\r")
        terminal.wait_for("Łódź".encode())
        terminal.press(b" broken\x07")
        terminal.wait_for(b"broken 700")
        terminal.press(b"\r")
        terminal.wait_for(b"The editor has failed")
        terminal.press(b"\x11")
        assert terminal.process.wait(30) == 0
        assert list(home.glob("editor-*")) == []
        store = ChatStore.open(home)
        assert [chat.draft for chat in store.chats()] == ["typed\nand Łódź broken"]
        store.close()
    finally:
        terminal.close()


def test_input_that_fails_is_a_bug_that_is_told_and_kept(home: Path) -> None:
    tests = str(Path(__file__).parents[2])
    terminal = Terminal(
        *("-m", "nowhere.gguf"),
        TEXTUAL_DRIVER="support.failing_driver:FailingDriver",
        PYTHONPATH=tests,
    )
    try:
        terminal.wait_for(b"nowhere.gguf")
        terminal.press(b"x")
        assert terminal.process.wait(30) == 1
        terminal.read(0.2)
        assert b"bug in openchat-local" in terminal.output
        log = (home / "openchat-local.log").read_text(encoding="utf-8")
        assert "ZeroDivisionError: the input broke" in log
        assert "in run_input_thread" in log
    finally:
        terminal.close()


def test_a_terminal_that_is_closed_takes_the_program_with_it(home: Path) -> None:
    terminal = Terminal("-m", "nowhere.gguf")
    try:
        terminal.wait_for(b"nowhere.gguf")
        terminal.press(b"unsent words")
        terminal.read(1.0)
        terminal.vanish()
        assert terminal.process.wait(30) == 0
        store = ChatStore.open(home)
        assert [chat.draft for chat in store.chats()] == ["unsent words"]
        store.close()
    finally:
        terminal.close()


def test_the_end_of_a_run_rings_and_is_told_to_the_desktop(home: Path) -> None:
    home.mkdir()
    told = begun(home, "my-\x1b]0;evil\x07voice", "good", "bad")
    elsewhere = dict.fromkeys(("TMUX", "STY", "TERM_PROGRAM", "VTE_VERSION", "WT_SESSION"), "")
    with at_work(told):
        told.tell(ready(), tried(0, 2.0), step(1, 1.9))
        terminal = Terminal("-m", "nowhere.gguf", **elsewhere)
        try:
            terminal.wait_for(b"learning: 12 %")
            assert b"\x1b]9;" not in terminal.output
            told.tell(tried(8, 1.0), done(), Closed("my-voice", "It fell."))
            told.let_go()
            terminal.wait_for(
                b"\x07\x1b]9;openchat-local: my-\xe2\x90\x9b]0,evil\xe2\x90\x87voice is"
            )
            terminal.wait_for(b"learned: /compare")
            terminal.press(b"\x11")  # Ctrl+Q, which asks nothing any more
            assert terminal.process.wait(30) == 0
            assert terminal.output.count(b"\x1b]9;") == 1
            assert b"\x1b]0;evil" not in terminal.output
        finally:
            terminal.close()
