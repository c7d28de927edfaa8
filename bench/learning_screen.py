"""The screen on which one chooses what is learned, in a real terminal, over 10,000 chats: from the
key to its list and its counts."""

from __future__ import annotations

import time

from bench.learning import rated_chats
from bench.report import table
from bench.setting import program, rounds, temporary_home
from bench.terminal import Terminal
from openchat_local.app.paths import ensure_home

ROUNDS = 5
CHATS = 10_000
CONTEXT = "2048"
READY = "/ 2,048"
COUNTS = f"{CHATS:,} chats, "
CLOSED = "Enter sends"
F8 = "\x1b[19~"


def main() -> None:
    samples: dict[str, list[float]] = {"first time": [], "again": []}
    with temporary_home():
        with rated_chats(ensure_home(), CHATS):
            pass
        for number in range(1 + rounds(ROUNDS)):  # the first is to warm up
            for name, seconds in zip(samples, _opened(), strict=True):
                if number:
                    samples[name].append(seconds)
    print(f"From F8 to the chats and the counts of their replies, {CHATS:,} chats in the list\n")
    print(table(samples, "s"))


def _opened() -> tuple[float, float]:
    """Seconds until the screen stands, in a window that was just opened, and once more in it."""
    terminal = Terminal(program("chat", "--context", CONTEXT))
    try:
        terminal.wait_for(READY)
        time.sleep(2.0)
        first = _open(terminal)
        after = terminal.written
        terminal.press("\x1b")
        terminal.wait_for(CLOSED, after=after)
        time.sleep(2.0)  # what was being counted is given up
        return first, _open(terminal)
    finally:
        terminal.close()


def _open(terminal: Terminal) -> float:
    after, began = terminal.written, time.perf_counter()
    terminal.press(F8)
    newest = f"Lamp number {CHATS - 1}"
    shown = max(terminal.wait_for(text, after=after) for text in (COUNTS, newest))
    return shown + terminal.started - began
