"""What is written to the terminal when a run has ended."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.app.tui.notification import Takes, sequence, sign, takes, through_tmux

XTERM = {"TERM": "xterm-256color"}


@pytest.mark.parametrize(
    ("environment", "taken"),
    [
        (XTERM, "OSC 9"),
        ({"TERM": "xterm-kitty"}, "OSC 9"),
        ({"TERM": "xterm-ghostty"}, "OSC 777"),
        ({"TERM": "foot"}, "OSC 777"),
        ({"TERM": "rxvt-unicode-256color"}, "OSC 777"),
        (XTERM | {"VTE_VERSION": "7600"}, "OSC 777"),
        (XTERM | {"TERM_PROGRAM": "iTerm.app"}, "OSC 9"),
        (XTERM | {"TERM_PROGRAM": "Apple_Terminal"}, "bell"),
        (XTERM | {"WT_SESSION": "1"}, "bell"),
        ({"TERM": "screen-256color", "STY": "1.pts-0"}, "bell"),
        ({"TERM": "linux"}, "bell"),
        ({"TERM": "vt220"}, "bell"),
        ({}, "bell"),
    ],
)
def test_a_terminal_gets_what_it_takes(environment: dict[str, str], taken: Takes) -> None:
    assert takes(environment) == taken


def test_what_is_written() -> None:
    assert sign("openchat-local", "Done.", "message", XTERM) == ("\a\x1b]9;openchat-local: Done.\a")
    assert sign("openchat-local", "Done.", "message", XTERM | {"VTE_VERSION": "1"}) == (
        "\a\x1b]777;notify;openchat-local;Done.\a"
    )
    assert sign("openchat-local", "Done.", "bell", XTERM) == "\a"
    assert sign("openchat-local", "Done.", "message", {"TERM": "linux"}) == "\a"
    assert sign("openchat-local", "Done.", "off", XTERM) == ""


@settings(max_examples=40)
@given(st.text(max_size=400), st.sampled_from(["OSC 9", "OSC 777"]))
def test_no_words_can_end_the_sequence_or_begin_another(text: str, how: Takes) -> None:
    written = sequence("openchat-local", text, how)
    inside = written[1:-1]
    assert written[0] == "\x1b"
    assert written[-1] == "\a"
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in inside)
    assert inside.count(";") == {"OSC 9": 1, "OSC 777": 3}[how]
    assert through_tmux(written).count("\x1b") == 4  # its own, the doubled one, and its end


def test_in_tmux_that_does_not_answer_the_bell_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    environment = {"TERM": "tmux-256color", "TMUX": "/tmp/none,1,0", "TERM_PROGRAM": "tmux"}
    assert sign("openchat-local", "Done.", "message", environment) == "\a"
