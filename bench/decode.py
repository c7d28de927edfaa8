"""Decoding the starter: a raw llama_decode loop, the engine, `ask`, and the chat window.

Every contender answers the same prompt greedily, TOKENS tokens of Markdown with code. Raw
loops, engine and window hold the model at once, and take turns within seconds; `ask` loads it
for each reply. There is a raw loop at 1 and at 2 threads (all cores, at most); the better one
is the yardstick. Engine, `ask` and window are timed by the engine child's own clock around its
decode loop, which is where a window that takes the cores away shows.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from statistics import median

import psutil

from bench.contenders import Contenders
from bench.report import interleave, table
from bench.setting import MARKDOWN_PROMPT, TOKENS, program, rounds, run, starter, temporary_home

ROUNDS = 7


def main() -> None:
    cores = psutil.cpu_count(logical=False) or 1
    threads = sorted({1, min(2, cores), cores})
    with ExitStack() as stack:
        living = Contenders(starter(), stack, lambda number: MARKDOWN_PROMPT, TOKENS, threads)
        contenders = {
            f"raw loop, {number} threads": (lambda number=number: living.raw(number)[0])
            for number in threads
        }
        contenders |= {
            "engine": lambda: living.engine()[0],
            "ask": _ask,
            "chat window": lambda: living.window()[0],
        }
        samples = interleave(contenders, rounds(ROUNDS))
    best = max(
        (name for name in samples if name.startswith("raw")), key=lambda n: median(samples[n])
    )
    print(table(samples, "tokens/s", against=best))


def _ask() -> float:
    limits = ("--temperature", "0", "--max-tokens", str(TOKENS))
    with temporary_home():
        said = run(*program("ask", MARKDOWN_PROMPT, "-v", *limits)).stderr
    found = re.search(r"at ([0-9.]+) tokens/s", said)
    assert found is not None, said
    return float(found[1])


if __name__ == "__main__":
    main()
