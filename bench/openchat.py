"""A model of OpenChat 3.5's shape in Q4_K_M, 7B: a raw llama_decode loop, the engine, the window.

Its blocks are random: neither speed nor memory depend on the values. All three hold the model
at once and reply in turns, greedily and with as many threads as there are cores, so that a
machine whose memory is faster at one minute than at the next is fair to all.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median

import psutil

from bench.raw_loop import RawLoop
from bench.report import interleave, table
from bench.setting import program, temporary_home
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

LOADS = 3
TOKENS = 32
DECODE_ROUNDS, PREFILL_ROUNDS = 16, 4
NEW_CHAT = "\x0e"  # Ctrl+N
SENTENCE = "Rivers follow the slope of the land, joining others on the way to the sea. "


class Contenders:
    """Each method replies to another prompt of `sentences` sentences than the last one did, and
    gives tokens per second of decoding and of the prefill. The raw loop is spared the beginning
    that all prompts share, as the engine spares itself."""

    def __init__(self, model: Path, stack: ExitStack) -> None:
        self.sentences = 1
        self._asked: dict[str, int] = {}
        options = EngineOptions(model)
        self._engine = stack.enter_context(closing(LocalEngine(options)))
        self._engine.load()
        cores = psutil.cpu_count(logical=False) or 1
        self._raw = stack.enter_context(closing(RawLoop(model, cores)))
        self._home = stack.enter_context(temporary_home())
        limits = ("--temperature", "0", "--max-tokens", str(TOKENS))
        command = program("chat", "-m", str(model), *limits)
        self._window = stack.enter_context(closing(Terminal(command)))
        self._window.wait_for("/ 8,192", timeout=180)

    def raw(self) -> tuple[float, float]:
        before = self._ids("raw")
        ids = self._ids("raw")
        shared = next(at for at, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b)
        return self._raw.reply(TOKENS, list(ids[shared:]))

    def engine(self) -> tuple[float, float]:
        *_, finished = self._engine.generate(self._request("engine"))
        assert isinstance(finished, Finished)
        usage = finished.usage
        assert usage.generated_tokens > TOKENS / 2, usage
        return usage.tokens_per_second, usage.evaluated_tokens / usage.prefill_seconds

    def window(self) -> tuple[float, float]:
        prompt = self._request("window").conversation.messages[0].content
        number = self._asked["window"]
        self._window.press((NEW_CHAT if number > 1 else "") + prompt + "\r")
        usage = wait_for_reply(self._home / "chats.db", timeout=300, number=number)
        assert usage["generated_tokens"] > TOKENS / 2, usage
        return (
            usage["generated_tokens"] / usage["decode_seconds"],
            usage["evaluated_tokens"] / usage["prefill_seconds"],
        )

    def prompt_tokens(self) -> int:
        return len(self._ids("prompt"))

    def resident(self) -> int:
        size: int = psutil.Process(self._engine.pid).memory_info().rss
        return size

    def _ids(self, contender: str) -> tuple[int, ...]:
        return tuple(self._engine.render(self._request(contender).conversation).ids)

    def _request(self, contender: str) -> GenerationRequest:
        number = self._asked[contender] = self._asked.get(contender, 0) + 1
        prompt = f"{number} times: " + SENTENCE * self.sentences
        conversation = Conversation((Message("user", prompt.strip()),))
        return GenerationRequest(conversation, Sampling(temperature=0.0, max_tokens=TOKENS))


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
        contenders = Contenders(model, stack)
        replies = {
            "raw loop": contenders.raw,
            "engine": contenders.engine,
            "chat window": contenders.window,
        }
        decode = {name: (lambda reply=reply: reply()[0]) for name, reply in replies.items()}
        prefill = {name: (lambda reply=reply: reply()[1]) for name, reply in replies.items()}
        decoded = interleave(decode, DECODE_ROUNDS)
        contenders.sentences = 12
        prefilled = interleave(prefill, PREFILL_ROUNDS)
        print(f"{contenders.resident() / 2**30:.2f} GiB resident at 8,192 tokens\n")
        print(table(decoded, f"tokens/s decoded, {TOKENS} a reply", against="raw loop"))
        print()
        prompt = f"tokens/s of prefill, {contenders.prompt_tokens()} tokens"
        print(table(prefilled, prompt, against="raw loop"))


def _load_seconds(model: Path) -> float:
    with closing(LocalEngine(EngineOptions(model))) as engine:
        return engine.load().load_seconds


if __name__ == "__main__":
    main()
