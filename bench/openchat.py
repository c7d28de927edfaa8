"""A model of OpenChat 3.5's shape in Q4_K_M, 7B: a raw llama_decode loop, the engine, the window.

Its blocks are random: neither speed nor memory depend on the values. All three get the same
prompt of a few hundred tokens and write greedily with as many threads as there are cores.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import closing
from pathlib import Path
from statistics import median

import psutil

from bench.report import interleave, table
from bench.setting import program, run, temporary_home
from bench.shapes import OPENCHAT_7B, write_openchat_vocabulary, write_random_model
from bench.terminal import Terminal, wait_for_reply
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    Finished,
    GenerationRequest,
    Sampling,
)

TOKENS = 96
ROUNDS = 3
PROMPT = "Rivers follow the slope of the land, joining others on the way to the sea. " * 12


class Contenders:
    """Each method is one reply, and notes the speed of its prefill in `prefill`."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self.prefill: dict[str, list[float]] = {}
        self.load_seconds: list[float] = []
        self.resident = 0
        self.threads = psutil.cpu_count(logical=False) or 1
        with closing(LocalEngine(EngineOptions(model, vocab_only=True))) as engine:
            self.ids = [str(id) for id in engine.render(self._request().conversation).ids]

    def raw(self) -> float:
        command = [sys.executable, "-m", "bench.raw_loop", str(self.model), str(self.threads)]
        decode, prefill = map(float, run(*command, str(TOKENS), *self.ids).stdout.split())
        return self._noted("raw loop", decode, prefill)

    def by_engine(self) -> float:
        with closing(LocalEngine(EngineOptions(self.model))) as engine:
            self.load_seconds.append(engine.load().load_seconds)
            *_, finished = engine.generate(self._request())
            self.resident = psutil.Process(engine.pid).memory_info().rss
        assert isinstance(finished, Finished)
        usage = finished.usage
        return self._noted(
            "engine", usage.tokens_per_second, usage.evaluated_tokens / usage.prefill_seconds
        )

    def by_window(self) -> float:
        limits = ("--temperature", "0", "--max-tokens", str(TOKENS))
        with temporary_home() as home:
            terminal = Terminal(program("chat", "-m", str(self.model), *limits))
            try:
                terminal.wait_for("/ 8,192", timeout=180)
                terminal.press(PROMPT + "\r")
                usage = wait_for_reply(home / "chats.db", timeout=300)
            finally:
                terminal.close()
        assert usage["generated_tokens"] > TOKENS / 2, usage
        return self._noted(
            "chat window",
            usage["generated_tokens"] / usage["decode_seconds"],
            usage["evaluated_tokens"] / usage["prefill_seconds"],
        )

    def _noted(self, name: str, decode: float, prefill: float) -> float:
        self.prefill.setdefault(name, []).append(prefill)
        return decode

    def _request(self) -> GenerationRequest:
        conversation = Conversation((Message("user", PROMPT),))
        return GenerationRequest(conversation, Sampling(temperature=0.0, max_tokens=TOKENS))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = write_openchat_vocabulary(Path(folder) / "vocabulary.gguf")
        model = write_random_model(
            Path(folder) / "openchat-7b.Q4_K_M.gguf", OPENCHAT_7B, vocabulary
        )
        contenders = Contenders(model)
        samples = interleave(
            {
                "raw loop": contenders.raw,
                "engine": contenders.by_engine,
                "chat window": contenders.by_window,
            },
            ROUNDS,
        )
        print(
            f"{model.stat().st_size / 1e9:.2f} GB, loaded by the engine in "
            f"{median(contenders.load_seconds):.1f} s with the file in the system's cache; "
            f"{contenders.resident / 2**30:.2f} GiB resident at 8,192 tokens; prompt of "
            f"{len(contenders.ids)} tokens\n"
        )
    print(table(samples, "tokens/s decoded", against="raw loop"))
    print()
    prefill = {name: speeds[1:] for name, speeds in contenders.prefill.items()}
    print(table(prefill, "tokens/s of prefill", against="raw loop"))
