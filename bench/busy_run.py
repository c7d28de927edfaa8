"""One contender of `bench.busy`, in a process that lives through all rounds.

`python -m bench.busy_run torch|mlx|prefill|decode`; each line on standard input asks for one
sample, which is answered with a line: seconds of a training step, or of a token.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from bench.setting import markdown_request, starter
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import GenerationRequest, Sampling

if TYPE_CHECKING:
    from openchat_local.models.engine.local import LocalEngine
    from openchat_local.models.engine.protocol import Usage

TOKENS = 96
SHAPE = (8, 128)  # rows and columns of a micro-batch, as a CPU gets them


def main(what: str) -> None:
    of_the_engine = {"prefill": _prefill, "decode": _decoding}
    sample = of_the_engine[what]() if what in of_the_engine else _training(what)
    sample()  # the first one also compiles, loads and warms up
    print("ready", flush=True)
    for _ in sys.stdin:
        print(sample(), flush=True)


def _training(backend: str) -> Callable[[], float]:
    from openchat_local.finetune.adapter.lora import LoraConfig
    from openchat_local.finetune.backends.choose import choose_backend
    from openchat_local.finetune.backends.trainer import OptimizerConfig
    from openchat_local.finetune.data.batches import Row, build_batch
    from openchat_local.models.gguf import read_gguf

    base = read_gguf(starter())
    trainer = choose_backend(backend).make(
        base, LoraConfig(), OptimizerConfig(), seed=0, checkpointing=False, quantised=False
    )
    random = np.random.default_rng(0)
    rows, columns = SHAPE
    weights = np.ones(columns, np.float32)
    weights[: columns // 2] = 0
    data = [
        Row(random.integers(100, 40_000, columns).astype(np.int32), weights, 0, line)
        for line in range(1, rows + 1)
    ]
    batch = build_batch(data, [(row,) for row in range(rows)])

    def step() -> float:
        started = time.perf_counter()
        trainer.step([batch], 1e-6)
        return time.perf_counter() - started

    return step


def _engine() -> LocalEngine:
    from openchat_local.models.engine.local import LocalEngine
    from openchat_local.models.engine.protocol import EngineOptions

    return LocalEngine(EngineOptions(starter(), context=1024))


def _usage(engine: LocalEngine, request: GenerationRequest) -> Usage:
    from openchat_local.models.engine.protocol import Finished

    *_, finished = engine.generate(request)
    assert isinstance(finished, Finished)
    return finished.usage


def _decoding() -> Callable[[], float]:
    engine = _engine()
    return lambda: 1 / _usage(engine, markdown_request(TOKENS)).tokens_per_second


def _prefill() -> Callable[[], float]:
    engine, numbers = _engine(), count()

    def read() -> float:
        words = " ".join(f"word {next(numbers)}" for _ in range(100))
        conversation = Conversation((Message("user", words),))
        usage = _usage(engine, GenerationRequest(conversation, Sampling(max_tokens=1)))
        return usage.prefill_seconds / usage.evaluated_tokens

    return read


if __name__ == "__main__":
    main(sys.argv[1])
