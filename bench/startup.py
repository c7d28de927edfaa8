"""Start-up: `--version`, the first byte of `ask` beside `llm`, first paint, idle cost, memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.report import interleave, table
from bench.setting import program, run, temporary_home
from bench.terminal import Terminal

PROMPT = "Name a colour."
# The status line's first word, painted with the first frame.
FIRST_PAINT = "starter"
IDLE_SECONDS = 10.0


def main() -> None:
    print("`--version` beside bare Python\n")
    contenders = {
        "python -c pass": lambda: _seconds([sys.executable, "-c", "pass"]),
        "openchat-local --version": lambda: _seconds(program("--version")),
    }
    print(table(interleave(contenders, rounds=15), "s"))

    print("\nFirst byte of a reply of the starter model, in a pipe\n")
    first_byte = {"ask": lambda: _first_byte(program("ask", PROMPT))}
    llm = shutil.which("llm", path=str(Path(sys.executable).parent))
    if llm is not None:
        first_byte["llm -m SmolLM2"] = lambda: _first_byte([llm, "-m", "SmolLM2", PROMPT])
    with temporary_home(), tempfile.TemporaryDirectory() as llm_home:
        os.environ["LLM_USER_PATH"] = llm_home
        run(*program("ask", PROMPT))  # the store exists from here on
        samples = interleave(first_byte, rounds=9)
    print(table(samples, "s", against="llm -m SmolLM2" if llm else None))

    print("\nThe chat window in a terminal of 120 × 40\n")
    with temporary_home():
        samples = interleave({"first paint": _first_paint, "model ready": _ready}, rounds=5)
        print(table(samples, "s"))
        _idle()


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    run(*command)
    return time.perf_counter() - started


def _first_byte(command: list[str]) -> float:
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 1)
    seconds = time.perf_counter() - started
    process.stdout.read()
    process.wait()
    return seconds


def _first_paint() -> float:
    terminal = Terminal(program("chat"))
    try:
        return terminal.wait_for(FIRST_PAINT)
    finally:
        terminal.close()


def _ready() -> float:
    terminal = Terminal(program("chat"))
    try:
        return terminal.wait_for("8,192")  # the context meter knows its size
    finally:
        terminal.close()


def _idle() -> None:
    terminal = Terminal(program("chat"))
    try:
        terminal.wait_for("8,192")
        time.sleep(3.0)
        written = terminal.written
        processes = [terminal.process, *terminal.process.children(recursive=True)]
        before = [sum(process.cpu_times()[:2]) for process in processes]
        time.sleep(IDLE_SECONDS)
        after = [sum(process.cpu_times()[:2]) for process in processes]
        shares = [
            100 * (end - begin) / IDLE_SECONDS for begin, end in zip(before, after, strict=True)
        ]
        memory = terminal.process.memory_info().rss / 1e6
        print(
            f"\nIdle for {IDLE_SECONDS:.0f} s: window {shares[0]:.2f} % of a core, engine "
            f"{sum(shares[1:]):.2f} %, {terminal.written - written} bytes painted; the window's "
            f"process holds {memory:.0f} MB."
        )
    finally:
        terminal.close()
