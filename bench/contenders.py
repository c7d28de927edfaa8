"""A raw llama_decode loop, the engine and the chat window, which hold one model at once and reply
in turns: whatever the machine does from one minute to the next, it does to all of them.

Nothing is drafted in any of them: what is compared is what a token costs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import psutil

from bench.raw_loop import RawLoop
from bench.setting import findings, program, temporary_home
from bench.terminal import Terminal, wait_for_reply
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    Finished,
    GenerationRequest,
    Sampling,
)

NEW_CHAT = "\x0e"  # Ctrl+N
_PLAIN = "OPENCHAT_LOCAL_ENGINE__SPECULATION"


class Contenders:
    """Each method replies greedily to the next of its prompts, as `prompt` numbers them from 1,
    and gives tokens per second of decoding and of the prefill. The raw loop is spared the
    beginning that a prompt shares with the one before, as the engine spares itself."""

    def __init__(
        self,
        model: Path,
        stack: ExitStack,
        prompt: Callable[[int], str],
        tokens: int,
        threads: Sequence[int] = (),
    ) -> None:
        """`tokens` a reply; a raw loop for each number of `threads`, else for all cores."""
        self.prompt = prompt
        self.tokens = tokens
        self._asked: dict[str, int] = {}
        options = EngineOptions(model, speculation=False, findings=findings())
        self._engine = stack.enter_context(closing(LocalEngine(options)))
        self._engine.load()
        cores = psutil.cpu_count(logical=False) or 1
        self._raw = {
            number: stack.enter_context(closing(RawLoop(model, number)))
            for number in threads or (cores,)
        }
        self.home = stack.enter_context(temporary_home())
        limits = ("--temperature", "0", "--max-tokens", str(tokens))
        stack.callback(os.environ.pop, _PLAIN, None)
        os.environ[_PLAIN] = "false"
        command = program("chat", "-m", str(model), *limits)
        self._window = stack.enter_context(closing(Terminal(command)))
        self._window.wait_for("/ 8,192", timeout=180)

    def raw(self, threads: int | None = None) -> tuple[float, float]:
        loop = self._raw[threads or next(iter(self._raw))]
        name = f"raw {threads}"
        before = self._ids(self._asked.get(name, 0) or 1)
        ids = self._ids(self._next(name))
        pairs = enumerate(zip(before, ids, strict=False))
        shared = next((at for at, (a, b) in pairs if a != b), 0)
        return loop.reply(self.tokens, list(ids[shared:]))

    def engine(self) -> tuple[float, float]:
        *_, finished = self._engine.generate(self._request(self._next("engine")))
        assert isinstance(finished, Finished)
        usage = finished.usage
        assert usage.generated_tokens > self.tokens / 2, usage
        prefill = usage.prefill_seconds or float("inf")
        return usage.tokens_per_second, usage.evaluated_tokens / prefill

    def window(self) -> tuple[float, float]:
        number = self._next("window")
        if number > 1:
            self._window.press(NEW_CHAT)
            time.sleep(0.5)  # sent in one breath, the prompt may still go into the chat before
        self._window.press(self.prompt(number) + "\r")
        usage = wait_for_reply(self.home / "chats.db", timeout=300, number=number)
        assert usage["generated_tokens"] > self.tokens / 2, usage
        return (
            usage["generated_tokens"] / usage["decode_seconds"],
            usage["evaluated_tokens"] / usage["prefill_seconds"],
        )

    def prompt_tokens(self) -> int:
        return len(self._ids(self._asked["engine"]))

    def resident(self) -> int:
        """Bytes of the engine's process."""
        size: int = psutil.Process(self._engine.pid).memory_info().rss
        return size

    def _next(self, contender: str) -> int:
        number = self._asked[contender] = self._asked.get(contender, 0) + 1
        return number

    def _ids(self, number: int) -> tuple[int, ...]:
        return tuple(self._engine.render(self._request(number).conversation).ids)

    def _request(self, number: int) -> GenerationRequest:
        conversation = Conversation((Message("user", self.prompt(number)),))
        return GenerationRequest(conversation, Sampling(temperature=0.0, max_tokens=self.tokens))
