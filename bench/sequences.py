"""Eight replies at once: the engine, beside a bare llama_decode with a row of each in a batch.

Each reply is to a prompt of its own, which every contender has read before the clock starts, and
takes TOKENS tokens, greedily. `llama_cpp.server` is a contender where it is installed (the
`bench` extra); it answers one request after another.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import psutil

from bench.raw_batches import RawBatches
from bench.report import interleave, table
from bench.setting import findings, rounds, starter
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    Finished,
    GenerationRequest,
    Sampling,
)

SEQUENCES = 8
TOKENS = 128
ROUNDS = 5
TOPICS = ("rivers", "bread", "clocks", "bees", "bridges", "glass", "snow", "maps")


def main() -> None:
    cores = psutil.cpu_count(logical=False) or 1
    model = starter()
    options = EngineOptions(model, speculation=False, findings=findings())
    with ExitStack() as stack:
        engine = stack.enter_context(closing(LocalEngine(options)))
        raw = stack.enter_context(closing(RawBatches(model, cores)))
        requests = [_request(topic) for topic in TOPICS[:SEQUENCES]]
        prompts = [list(engine.render(request.conversation).ids) for request in requests]
        contenders: dict[str, Callable[[], float]] = {
            "bare llama_decode, one": lambda: raw.together(prompts[:1], TOKENS),
            f"bare llama_decode, {SEQUENCES} rows": lambda: raw.together(prompts, TOKENS),
            "engine, one": lambda: _together(engine, requests[:1]),
            f"engine, {SEQUENCES} at once": lambda: _together(engine, requests),
        }
        if importlib.util.find_spec("sse_starlette") is not None:  # of the `bench` extra
            server = stack.enter_context(closing(Server(model, cores, TOKENS)))
            texts = [request.conversation.messages[-1].content for request in requests]
            contenders[f"llama_cpp.server, {SEQUENCES} at once"] = lambda: server.together(texts)
        samples = interleave(contenders, rounds(ROUNDS))
    print(table(samples, "tokens/s altogether", against=f"bare llama_decode, {SEQUENCES} rows"))


def _request(topic: str) -> GenerationRequest:
    prompt = f"Write a long story about {topic}, with many chapters."
    sampling = Sampling(temperature=0.0, max_tokens=TOKENS)
    return GenerationRequest(Conversation((Message("user", prompt),)), sampling)


def _together(engine: LocalEngine, requests: Sequence[GenerationRequest]) -> float:
    """Tokens per second of all replies, from the first request to the last token."""
    generated: list[int] = []

    def ask(request: GenerationRequest) -> None:
        *_, finished = engine.generate(request)
        assert isinstance(finished, Finished)
        generated.append(finished.usage.generated_tokens)

    seconds = at_once([lambda request=request: ask(request) for request in requests])
    assert len(generated) == len(requests)
    return sum(generated) / seconds


class Server:
    """`python -m llama_cpp.server`, in a process of its own."""

    def __init__(self, model: Path, threads: int, tokens: int) -> None:
        """`tokens` of each reply."""
        self._tokens = tokens
        self._port = _free_port()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "llama_cpp.server", "--model", str(model)),
                *("--n_threads", str(threads), "--n_ctx", "8192", "--port", str(self._port)),
                *("--interrupt_requests", "False", "--verbose", "False"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while not self._ready():
            if time.monotonic() > deadline or self._process.poll() is not None:
                sys.exit("llama_cpp.server did not start")
            time.sleep(0.2)

    def together(self, prompts: Sequence[str]) -> float:
        generated: list[int] = []

        def ask(prompt: str) -> None:
            answer = self._post(
                "/v1/chat/completions",
                {
                    "messages": [{"role": "user", "content": prompt}],
                    "temperature": 0,
                    "max_tokens": self._tokens,
                },
            )
            generated.append(answer["usage"]["completion_tokens"])

        seconds = at_once([lambda prompt=prompt: ask(prompt) for prompt in prompts])
        assert len(generated) == len(prompts)
        return sum(generated) / seconds

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/v1/models", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def _post(self, path: str, body: dict[str, object]) -> dict[str, dict[str, int]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            found: dict[str, dict[str, int]] = json.loads(answer.read())
        return found


def at_once(calls: Sequence[Callable[[], None]]) -> float:
    """Seconds until all of them, begun together, are done."""
    threads = [threading.Thread(target=call) for call in calls]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


if __name__ == "__main__":
    main()
