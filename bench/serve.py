"""The server beside the engine itself, a bare llama_decode and llama_cpp.server; and under load.

One client alone, before there are others whose conversations the server keeps at hand; the first
token of a short request while somebody's long prompt is read; eight clients at once, each with a
prompt of its own that every contender has read before the clock starts. All live through all rounds
and take turns. `make bench ARGS="serve --minutes 10"` goes on with
minutes of load (`bench.serve_load`).
"""

from __future__ import annotations

import importlib.util
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from statistics import median

import psutil

from bench import serve_load
from bench.raw_batches import RawBatches
from bench.report import interleave, table
from bench.sequences import TOPICS, Server, at_once
from bench.served import Served, events, serving
from bench.setting import findings, minutes, rounds, starter
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    Finished,
    GenerationRequest,
    Sampling,
)

CLIENTS = 8
TOKENS, ALONE_TOKENS = 128, 256
ROUNDS, ALONE_ROUNDS, FIRST_ROUNDS = 3, 8, 4
PROMPTS = [f"Write a long story about {topic}, with many chapters." for topic in TOPICS[:CLIENTS]]
SENTENCE = "Rivers follow the slope of the land, joining others on the way to the sea. "
LONG = 116  # sentences: 2,000 tokens and a few


def main() -> None:
    model, cores = starter(), psutil.cpu_count(logical=False) or 1
    with ExitStack() as stack:
        served = stack.enter_context(serving(model))
        options = EngineOptions(model, speculation=False, findings=findings())
        engine = stack.enter_context(closing(LocalEngine(options)))
        engine.load()
        one = {
            "engine": lambda: _engine(engine, PROMPTS[:1], ALONE_TOKENS),
            "serve, whole answer": lambda: _alone(served, stream=False),
            "serve, stream": lambda: _alone(served, stream=True),
        }
        print(f"One client, {ALONE_TOKENS} tokens:\n")
        print(table(interleave(one, rounds(ALONE_ROUNDS)), "tokens/s", against="engine"))
        _first_token(served)
        raw = stack.enter_context(closing(RawBatches(model, cores)))
        many = {
            f"bare llama_decode, {CLIENTS} rows": _raw(raw, engine),
            f"engine, {CLIENTS} at once": lambda: _engine(engine, PROMPTS, TOKENS),
            f"serve, {CLIENTS} whole answers": lambda: _served(served, stream=False),
            f"serve, {CLIENTS} streams": lambda: _served(served, stream=True),
        }
        first = next(iter(many))
        theirs = f"llama_cpp.server, {CLIENTS} whole answers"
        if importlib.util.find_spec("sse_starlette") is not None:  # of the `bench` extra
            other = stack.enter_context(closing(Server(model, cores, TOKENS)))
            many[theirs] = lambda: other.together(PROMPTS)
        samples = interleave(many, rounds(ROUNDS))
        print(f"\n{CLIENTS} clients, {TOKENS} tokens each:\n")
        print(table(samples, "tokens/s altogether", against=first))
        for name in [one for one in many if one.startswith("serve") and theirs in many]:
            pairs = zip(samples[name], samples[theirs], strict=True)
            ratios = [ours / other for ours, other in pairs]
            spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
            print(f"\n{name}: **{median(ratios):.2f}×** ({spread}) of llama_cpp.server")
    if minutes():
        serve_load.main()


def _raw(raw: RawBatches, engine: LocalEngine) -> Callable[[], float]:
    asked = [Conversation((Message("user", prompt),)) for prompt in PROMPTS]
    prompts = [list(engine.render(conversation).ids) for conversation in asked]
    return lambda: raw.together(prompts, TOKENS)


def _engine(engine: LocalEngine, prompts: Sequence[str], tokens: int) -> float:
    """Tokens per second of all replies, from the first request to the last token."""
    generated: list[int] = []

    def ask(prompt: str) -> None:
        conversation = Conversation((Message("user", prompt),))
        sampling = Sampling(temperature=0.0, max_tokens=tokens)
        *_, finished = engine.generate(GenerationRequest(conversation, sampling))
        assert isinstance(finished, Finished)
        generated.append(finished.usage.generated_tokens)

    seconds = at_once([lambda prompt=prompt: ask(prompt) for prompt in prompts])
    assert len(generated) == len(prompts)
    return sum(generated) / seconds


def _served(served: Served, *, stream: bool) -> float:
    generated: list[int] = []

    def ask(prompt: str) -> None:
        generated.append(served.chat(prompt, TOKENS, stream=stream).tokens)

    seconds = at_once([lambda prompt=prompt: ask(prompt) for prompt in PROMPTS])
    assert len(generated) == CLIENTS
    return sum(generated) / seconds


def _alone(served: Served, *, stream: bool) -> float:
    answer = served.chat(PROMPTS[0], ALONE_TOKENS, stream=stream)
    return answer.tokens / answer.seconds


# The first token


def _first_token(served: Served) -> None:
    """Of a short request, with nothing else to do, and while a long prompt is read."""
    numbers = itertools.count(1)
    idle, beside, alone, disturbed, length = [], [], [], [], 0
    for number in range(rounds(FIRST_ROUNDS) + 1):
        quiet = served.chat(_short(next(numbers)), 8, stream=True).first
        seconds, length = _long(served, next(numbers))
        found: list[float] = []
        reading = threading.Thread(target=lambda: found.append(_long(served, next(numbers))[0]))  # noqa: B023
        reading.start()
        time.sleep(0.3)  # so that it is at it
        busy = served.chat(_short(next(numbers)), 8, stream=True).first
        assert reading.is_alive(), "the long prompt was read too soon"
        reading.join()
        if number:  # the first round warms up
            idle.append(quiet)
            beside.append(busy)
            alone.append(seconds)
            disturbed.append(found[0])
    print(f"\nTo the first token, of a short request and of one of {length:,} tokens:\n")
    samples = {
        "short, idle": idle,
        "short, while the long one is read": beside,
        "long, alone": alone,
        "long, with the short one beside it": disturbed,
    }
    print(table(samples, "seconds"))


def _short(number: int) -> str:
    return f"{number}, {time.time_ns()}: say hello to me."


def _long(served: Served, number: int) -> tuple[float, int]:
    """Seconds to the first token, and how many the prompt has."""
    began = time.perf_counter()
    seconds, tokens = 0.0, 0
    prompt = f"{number}, {time.time_ns()}. {SENTENCE * LONG}"
    with served.asked(prompt, 2, stream=True) as response:
        for event in events(response):
            if not seconds and event["choices"] and event["choices"][0]["delta"].get("content"):
                seconds = time.perf_counter() - began
            if event.get("usage"):
                tokens = event["usage"]["prompt_tokens"]
    return seconds, tokens


if __name__ == "__main__":
    main()
