"""The window in a browser, in Chromium without a screen: how long a tab takes to open, a key to
show, and what it holds; that it types, streams and rates, and asks no other host for anything.
`BENCH_PICTURES=FOLDER` keeps pictures of it."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bench.browser import Browser, until
from bench.setting import program, temporary_home
from openchat_local.app.chats import ChatStore

KEYS = 40
PROMPT = "Name three colours. \u4f60\u597d \U0001f44b\U0001f3fd"


def main() -> None:
    with temporary_home() as home, _served() as (server, url), Browser() as browser:
        key = (home / "web-key").read_text().strip()
        began = time.perf_counter()
        browser.open(f"{url}/#key={key}")
        until(lambda: browser.run("document.body.classList.contains('-first-byte')"))
        opened = time.perf_counter() - began
        until(lambda: b"8,192" in _painted(browser))
        ready = time.perf_counter() - began
        _picture(browser, "open")
        delays = [_delay(browser, letter) for letter in "abcdefghij" * (KEYS // 10)]
        for _ in range(KEYS):
            browser.press("Backspace")
        _type_stream_rate(browser, home)
        _look(browser)
        hosts = {urlsplit(address).netloc for address in browser.asked}
        holds = [child.memory_info().rss / 1e6 for child in _window(server)]
        print(
            f"A tab shows the window after {opened:.2f} s and is ready after {ready:.2f} s; what a "
            f"key changes is back in the browser after {statistics.median(delays) * 1000:.1f} ms "
            f"(median of {KEYS}); the window's processes hold {sum(holds):.0f} MB. "
            "Typed, streamed and rated."
        )
        if hosts != {urlsplit(url).netloc}:
            sys.exit(f"it asked other hosts: {hosts}")
        print(f"{len(browser.asked)} requests, all of them to the server itself.")


@contextmanager
def _served() -> Iterator[tuple[psutil.Process, str]]:
    arguments = ("serve", "--web", "--port", "0", "--max-tokens", "60", "--seed", "1")
    process = subprocess.Popen(
        program(*arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        found = re.search(r"https?://[^/\s]+", process.stdout.readline())
        assert found is not None
        yield psutil.Process(process.pid), found[0]
    finally:
        process.terminate()
        process.wait()


def _window(server: psutil.Process) -> list[psutil.Process]:
    windows = [child for child in server.children() if "chat" in child.cmdline()]
    return [*windows, *(each for window in windows for each in window.children())]


def _painted(browser: Browser) -> bytes:
    """What the window has drawn."""
    import base64

    browser.run("1")  # takes in what has come meanwhile
    received = [data for way, _, data in browser.frames if way == "received"]
    return b"".join(base64.b64decode(data) for data in received if not data.startswith("["))


def _delay(browser: Browser, letter: str) -> float:
    """Seconds from a key that leaves the browser to the next drawing that comes."""
    before = len(browser.frames)
    browser.press(letter)

    def answered() -> float | None:
        browser.run("1")
        since = browser.frames[before:]
        sent = next((at for way, at, data in since if way == "sent" and "stdin" in data), None)
        if sent is None:
            return None
        return next((at - sent for way, at, _ in since if way == "received" and at > sent), None)

    until(answered)
    return answered() or 0.0


def _type_stream_rate(browser: Browser, home: Path) -> None:
    browser.type(PROMPT)
    browser.press("Enter")
    with closing(ChatStore.open(home)) as store:

        def reply() -> list[object]:
            chats = store.chats()
            found = store.branch(chats[0].id)[1:] if chats else []
            return [one for one in found if one.finish_reason]

        until(reply)
        time.sleep(0.5)
        _picture(browser, "reply")
        browser.press("ArrowUp", 1)
        time.sleep(0.5)
        browser.press("+")
        until(lambda: store.branch(store.chats()[0].id)[-1].rating == 1)
        assert store.branch(store.chats()[0].id)[0].content == PROMPT.strip()
    _picture(browser, "rated")


def _look(browser: Browser) -> None:
    """At what a person would: F8, and other sizes."""
    browser.press("F8")
    time.sleep(1)
    _picture(browser, "learn")
    browser.press("Escape")
    for width, height in ((1500, 900), (560, 420)):
        browser.resize(width, height)
        time.sleep(1)
        _picture(browser, f"{width}x{height}")


def _picture(browser: Browser, name: str) -> None:
    if folder := os.environ.get("BENCH_PICTURES"):
        browser.picture(Path(folder) / f"{name}.png")
