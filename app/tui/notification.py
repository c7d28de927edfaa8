"""A sign from the terminal that something has ended, for whoever looks elsewhere meanwhile.

The bell works everywhere. A message on the desktop is a control sequence, OSC 9 (of iTerm2) or
OSC 777 (of rxvt), that a terminal passes on: only one of them is sent, since some take both, and
none to a terminal that may print what it does not know.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from typing import Literal

from openchat_local.app.printable import one_line

Takes = Literal["bell", "OSC 9", "OSC 777"]
Wanted = Literal["message", "bell", "off"]

BELL = "\a"
LONGEST = 200  # characters: some terminals cut a sequence, and the rest would be text
ASK_TMUX_SECONDS = 1.0
_OSC_777 = re.compile(r"rxvt-unicode|foot|xterm-ghostty|wezterm")
_OSC_9 = re.compile(r"xterm")
_PROGRAMS: Mapping[str, Takes] = {
    "iTerm.app": "OSC 9",
    "WezTerm": "OSC 777",
    "ghostty": "OSC 777",
    "Apple_Terminal": "bell",
    "vscode": "bell",
}


def sign(title: str, text: str, wanted: Wanted, environment: Mapping[str, str]) -> str:
    """What to write to the terminal; "" where nothing is wanted. In tmux this asks it."""
    if wanted == "off":
        return ""
    if wanted == "bell":
        return BELL
    if environment.get("TMUX"):
        terminal = _terminal_behind_tmux()
        message = "" if terminal is None else sequence(title, text, _by_name(terminal))
        return BELL + (through_tmux(message) if message else "")
    return BELL + sequence(title, text, takes(environment))


def takes(environment: Mapping[str, str]) -> Takes:
    """What the terminal can be expected to take: there is no answer that would tell."""
    if environment.get("STY") or environment.get("WT_SESSION"):
        return "bell"
    if known := _PROGRAMS.get(environment.get("TERM_PROGRAM", "")):
        return known
    if environment.get("VTE_VERSION"):
        return "OSC 777"
    return _by_name(environment.get("TERM", ""))


def _by_name(terminal: str) -> Takes:
    """By its terminfo name. Linux's console among others prints what it does not know."""
    if _OSC_777.match(terminal):
        return "OSC 777"
    return "OSC 9" if _OSC_9.match(terminal) else "bell"


def sequence(title: str, text: str, how: Takes) -> str:
    """The message as a control sequence; "" for a terminal that takes none. Nothing in the
    words can end it early: control characters are shown as what they are."""
    # A number and a semicolon first would be another command of OSC 9; so the title is first.
    title, text = (one_line(part).replace(";", ",") for part in (title, text))
    if how == "OSC 9":
        return f"\x1b]9;{title}: {text}"[:LONGEST] + BELL
    if how == "OSC 777":
        return f"\x1b]777;notify;{title};{text}"[:LONGEST] + BELL
    return ""


def through_tmux(message: str) -> str:
    """`message` for the terminal that tmux itself runs in."""
    doubled = message.replace("\x1b", "\x1b\x1b")
    return f"\x1bPtmux;{doubled}\x1b\\"


def _terminal_behind_tmux() -> str | None:
    """The name of the terminal that tmux runs in; None where it lets nothing through."""
    try:
        answer = subprocess.run(
            ["tmux", "display-message", "-p", "#{allow-passthrough} #{client_termname}"],
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_TMUX_SECONDS,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    # In words or, in tmux 3.3, by number.
    allowed, _, terminal = answer.strip().partition(" ")
    return terminal if allowed in ("on", "all", "1", "2") else None
