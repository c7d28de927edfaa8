"""A model of OpenChat 3.5's shape in Q4_K_M, 7B: a raw llama_decode loop, the engine, the window.

Its blocks are random: neither speed nor memory depend on the values. All three hold the model
at once and reply in turns, greedily and with as many threads as there are cores, so that a
machine whose memory is faster at one minute than at the next is fair to all.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from statistics import median

from bench.contenders import Contenders
from bench.report import interleave, table
from bench.setting import findings, rounds
from bench.shapes import OPENCHAT_7B, write_openchat_vocabulary, write_random_model
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions

LOADS = 3
TOKENS = 32
DECODE_ROUNDS, PREFILL_ROUNDS = 16, 4
SENTENCE = "Rivers follow the slope of the land, joining others on the way to the sea. "


def prompt(sentences: int, number: int) -> str:
    """Another one than the last time."""
    return (f"{number} times: " + SENTENCE * sentences).strip()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        vocabulary = write_openchat_vocabulary(Path(folder) / "vocabulary.gguf")
        model = write_random_model(
            Path(folder) / "openchat-7b.Q4_K_M.gguf", OPENCHAT_7B, vocabulary
        )
        os.sync()  # else loading waits for the writing
        print(
            f"{model.stat().st_size / 1e9:.2f} GB, loaded by the engine in "
            f"{median(_load_seconds(model) for _ in range(LOADS)):.1f} s with the file in the "
            "system's cache"
        )
        contenders = Contenders(model, stack, partial(prompt, 1), TOKENS)
        replies = {
            "raw loop": contenders.raw,
            "engine": contenders.engine,
            "chat window": contenders.window,
        }
        decode = {name: (lambda reply=reply: reply()[0]) for name, reply in replies.items()}
        prefill = {name: (lambda reply=reply: reply()[1]) for name, reply in replies.items()}
        decoded = interleave(decode, rounds(DECODE_ROUNDS))
        contenders.prompt = partial(prompt, 12)
        prefilled = interleave(prefill, rounds(PREFILL_ROUNDS))
        print(f"{contenders.resident() / 2**30:.2f} GiB resident at 8,192 tokens\n")
        print(table(decoded, f"tokens/s decoded, {TOKENS} a reply", against="raw loop"))
        print()
        read = f"tokens/s of prefill, {contenders.prompt_tokens()} tokens"
        print(table(prefilled, read, against="raw loop"))


def _load_seconds(model: Path) -> float:
    with closing(LocalEngine(EngineOptions(model, findings=findings()))) as engine:
        return engine.load().load_seconds


if __name__ == "__main__":
    main()
