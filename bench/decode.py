"""Decoding the starter: a raw llama_decode loop, the engine, `ask`, and the chat window.

Every contender answers the same prompt greedily, TOKENS tokens of Markdown with code. The
raw loop is timed at 1 and at 2 threads (all cores, at most); the better one is the yardstick.
Engine, `ask` and window are timed by the engine child's own clock around its decode loop,
which is where a window that takes the cores away shows.
"""

from __future__ import annotations

import json
import re
from contextlib import closing
from statistics import median

import psutil

from bench.raw_loop import RawLoop
from bench.report import interleave, table
from bench.setting import (
    MARKDOWN_PROMPT,
    TOKENS,
    markdown_request,
    program,
    run,
    starter,
    temporary_home,
)
from bench.terminal import Terminal, wait_for_reply
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, Finished

ROUNDS = 7


def main() -> None:
    engine = LocalEngine(EngineOptions(starter()))
    prompt = list(engine.render(markdown_request().conversation).ids)
    cores = psutil.cpu_count(logical=False) or 1

    def raw(threads: int) -> float:
        with closing(RawLoop(starter(), threads)) as loop:
            return loop.reply(TOKENS, prompt)[0]

    contenders = {
        f"raw loop, {threads} threads": (lambda threads=threads: raw(threads))
        for threads in sorted({1, min(2, cores), cores})
    }
    contenders |= {"engine": lambda: _engine(engine), "ask": _ask, "chat window": _window}
    with temporary_home():
        samples = interleave(contenders, ROUNDS)
    engine.close()
    best = max(
        (name for name in samples if name.startswith("raw")), key=lambda n: median(samples[n])
    )
    print(table(samples, "tokens/s", against=best))


def _engine(engine: LocalEngine) -> float:
    *_, finished = engine.generate(markdown_request())
    assert isinstance(finished, Finished)
    return finished.usage.tokens_per_second


def _ask() -> float:
    limits = ("--temperature", "0", "--max-tokens", str(TOKENS))
    said = run(*program("ask", MARKDOWN_PROMPT, "-v", *limits)).stderr
    found = re.search(r"at ([0-9.]+) tokens/s", said)
    assert found is not None, said
    return float(found[1])


def _window() -> float:
    with temporary_home() as home:
        arguments = ("chat", "--temperature", "0", "--max-tokens", str(TOKENS))
        terminal = Terminal(program(*arguments), columns=120, rows=40)
        try:
            terminal.wait_for("/ 8,192")
            terminal.press(MARKDOWN_PROMPT + "\r")
            usage = wait_for_reply(home / "chats.db")
        finally:
            terminal.close()
    assert usage["generated_tokens"] > TOKENS / 2, json.dumps(usage)
    return usage["generated_tokens"] / usage["decode_seconds"]
