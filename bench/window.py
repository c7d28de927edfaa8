"""The chat window in a real terminal of 120 × 40: opening long chats, keys while a reply is
written, one code block of 5,000 lines, and how much is painted when nothing happens.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.report import table
from bench.setting import program, temporary_home
from bench.terminal import Terminal
from openchat_local.app.chats import ChatStore
from openchat_local.app.chats.drafts import ChatDraft, MessageDraft
from openchat_local.app.paths import ensure_home

MESSAGES = 2_000
KEYS = 60
SECONDS_A_KEY = 0.15
ROUNDS = 5
IDLE_SECONDS = 10.0
CONTEXT = "2048"
READY = "/ 2,048"
LAST = "the very last words"
FIRST_LINES = slice(5, 35)  # chunks of 20 lines
LAST_LINES = slice(-32, -2)
LONG_PROMPT = "Write a very long story about a lighthouse, with many chapters."
# Letters that the model will hardly write in this order: what the prompt shows is told from
# what the reply does.
TYPED = "qxzvkjwqzxkvjqwxzvqkxjzwvq" * 3


def main() -> None:
    with temporary_home():
        _seed()
        opened = {
            f"a chat of {MESSAGES:,} messages": [_open("two thousand") for _ in range(ROUNDS)],
            "one message of 100,000 characters": [_open("hundred") for _ in range(ROUNDS)],
        }
    print(f"From Enter in the list to the last words on the screen, {ROUNDS} rounds\n")
    print(table(opened, "s"))
    with temporary_home():
        _seed()
        print(f"\nA key to its paint, {KEYS} keys, in the chat of {MESSAGES:,} messages\n")
        print(_row("", ("median ms", "p95 ms", "max ms")))
        print("|---|---|---|---|")
        for name, prompt in (("idle", ""), ("while the starter writes", LONG_PROMPT)):
            print(_row(name, [f"{1000 * value:.1f}" for value in _keys(prompt)]))
        painted = _idle()
    print(f"\nIdle for {IDLE_SECONDS:.0f} s in that chat: {painted} bytes painted.\n")
    with temporary_home():
        early, late, keys = _code()
    print(
        "CPU time of the window's process for each chunk of 20 lines of one code block of 5,000: "
        f"{statistics.mean(early):.1f} ms at lines 100 to 700, {statistics.mean(late):.1f} ms at "
        "lines 4,360 to 4,960 (means; a chunk that is painted costs ten times one that waits)."
    )
    print(f"\nA key to its paint while lines 1,500 to 2,500 come: p95 {1000 * keys:.1f} ms.")


def _seed() -> None:
    """The chats of the bench, with those that are opened first in the list."""
    store = ChatStore.open(ensure_home())
    texts = [
        f"Question {n}?" if n % 2 == 0 else f"Answer **number {n}** with `code`.\n\n- one\n- two\n"
        for n in range(MESSAGES - 1)
    ]
    story = "A sentence of a message that is very long. " * (100_000 // 43)
    for title, contents in (
        ("two thousand", [*texts, f"{LAST}"]),
        ("hundred", ["Tell me everything.", f"{story}\n\n{LAST}"]),
    ):
        roles = ("user", "assistant")
        messages = tuple(
            MessageDraft(roles[n % 2], text, n - 1 if n else None)  # type: ignore[arg-type]
            for n, text in enumerate(contents)
        )
        store.add_chats([ChatDraft(messages, {"title": title})])
    store.close()


def _window() -> Terminal:
    terminal = Terminal(
        program("chat", "--temperature", "0", "--max-tokens", "1500", "--context", CONTEXT)
    )
    terminal.wait_for(READY)
    time.sleep(1.0)
    return terminal


def _pick(terminal: Terminal, title: str) -> float:
    """Open a chat by its title; seconds from Enter to its last words."""
    terminal.press("\x1b[Z" * 2)  # from the prompt to the list
    time.sleep(0.3)
    terminal.press("\x1b[B" if title == "hundred" else "\x1b[B\x1b[B")
    time.sleep(0.5)
    after, started = terminal.written, time.perf_counter()
    terminal.press("\r")
    return terminal.wait_for(LAST, after=after) + terminal.started - started


def _open(title: str) -> float:
    terminal = _window()
    try:
        return _pick(terminal, title)
    finally:
        terminal.close()


def _keys(prompt: str) -> tuple[float, float, float]:
    """Median, 95th percentile and highest time from a key to its paint, in seconds."""
    terminal = _window()
    try:
        _pick(terminal, "two thousand")
        if prompt:
            after = terminal.written
            terminal.press(prompt + "\r")
            terminal.wait_for("tokens/s", timeout=180, after=after)
        times = _type(terminal)
    finally:
        terminal.close()
    return statistics.median(times), _p95(times), max(times)


def _type(terminal: Terminal, keys: int = KEYS) -> list[float]:
    times = []
    for number in range(keys):
        after, started = terminal.written, time.perf_counter()
        terminal.press(TYPED[number])
        # The row is painted anew up to the cursor.
        shown = terminal.wait_for(TYPED[max(0, number - 12) : number + 1], after=after)
        times.append(shown + terminal.started - started)
        time.sleep(SECONDS_A_KEY)
    return times


def _idle() -> int:
    terminal = _window()
    try:
        _pick(terminal, "two thousand")
        time.sleep(3.0)
        before = terminal.written
        time.sleep(IDLE_SECONDS)
        return terminal.written - before
    finally:
        terminal.close()


def _code() -> tuple[list[float], list[float], float]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "costs.json"
        terminal = Terminal([sys.executable, "-m", "bench.scripted", str(report)])
        try:
            terminal.wait_for("/ 8,192")
            time.sleep(1.0)
            terminal.press("Go.\r")
            _wait_for_line(terminal, 1_500)
            keys = _p95(_type(terminal, 30))
            deadline = time.monotonic() + 60
            while not report.exists() and time.monotonic() < deadline:
                time.sleep(0.2)
            costs = [1000 * cost for cost in json.loads(report.read_text())]
        finally:
            terminal.close()
    return costs[FIRST_LINES], costs[LAST_LINES], keys


def _wait_for_line(terminal: Terminal, number: int, timeout: float = 120.0) -> None:
    """Wait until a line from `number` on has been painted; most never are."""
    deadline = time.monotonic() + timeout
    while not any(int(n) >= number for n in re.findall(rb"line (\d+)", terminal.tail(20_000))):
        if time.monotonic() > deadline:
            raise TimeoutError(f"line {number} never came")
        time.sleep(0.05)


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def _row(name: str, cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join((name, *cells))} |"
