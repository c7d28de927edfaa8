"""The KV cache as f16 and as q8_0: memory, what it costs in loss, and speed.

Both engines live through all rounds and take turns. The loss is that of a long English text (our
own manual), all of it behind what comes before, in nats a token. `BENCH_MODEL` names another model
than the starter.
"""

from __future__ import annotations

import itertools
import os
from contextlib import ExitStack, closing
from pathlib import Path

import psutil

from bench.report import interleave, table
from bench.setting import starter
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    Finished,
    GenerationRequest,
    KVType,
    Sampling,
    ScoreRequest,
    Usage,
)
from openchat_local.models.gguf import read_gguf
from openchat_local.models.memory import predict

TYPES: tuple[KVType, ...] = ("f16", "q8_0")
CONTEXT = 8192
TEXT_TOKENS, LONG, WRITTEN = 2048, 2000, 64
ROUNDS = 5
_NUMBERS = itertools.count(1000)
DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    model = Path(os.environ.get("BENCH_MODEL") or starter())
    with ExitStack() as stack:
        engines = {}
        for kv_type in TYPES:
            options = EngineOptions(model, context=CONTEXT, kv_type=kv_type)
            engines[kv_type] = stack.enter_context(closing(LocalEngine(options)))
            engines[kv_type].load()
        print("| | KV cache, MiB | predicted MiB | resident | loss, nats a token |")
        print("|---|---|---|---|---|")
        for kv_type, engine in engines.items():
            _reply(engine, LONG)
            need = predict(read_gguf(model), CONTEXT, kv_type=kv_type)
            resident = psutil.Process(engine.pid).memory_info().rss
            sizes = " | ".join(f"{size / 2**20:,.0f}" for size in (need.kv, need.total, resident))
            print(f"| {kv_type} | {sizes} | {_loss(engine):.4f} |", flush=True)
        for name, words in (("short chat", 20), (f"after {LONG:,} words", LONG)):
            print(f"\nDecoding, {name}:\n")
            contenders = {
                kv_type: lambda e=engine, w=words: _reply(e, w).tokens_per_second
                for kv_type, engine in engines.items()
            }
            print(table(interleave(contenders, ROUNDS), "tokens/s", "f16"), flush=True)
        print("\nReading a prompt of 512 words:\n")
        contenders = {kv_type: lambda e=engine: _prefill(e) for kv_type, engine in engines.items()}
        print(table(interleave(contenders, ROUNDS), "tokens/s", "f16"), flush=True)


def _text() -> str:
    return "\n".join(path.read_text() for path in sorted(DOCS.glob("*.md")))


def _loss(engine: LocalEngine) -> float:
    """Of the first tokens of our manual, in nats a token."""
    ids = engine.render(Conversation((Message("user", _text()[: 8 * TEXT_TOKENS]),))).ids
    text = ids[:TEXT_TOKENS]
    (score,) = engine.score([ScoreRequest(text[:1], text[1:])])
    return -score.log_probability / len(score.ids)


def _reply(engine: LocalEngine, words: int, first: str = "Read this.") -> Usage:
    prompt = " ".join([first, *_text().split()[:words]])
    conversation = Conversation((Message("user", prompt),))
    *_, finished = engine.generate(
        GenerationRequest(
            conversation, Sampling(temperature=0.0, max_tokens=WRITTEN), speculate=False
        )
    )
    assert isinstance(finished, Finished)
    return finished.usage


def _prefill(engine: LocalEngine) -> float:
    """Tokens a second of a prompt whose beginning is new each time."""
    usage = _reply(engine, 512, f"Number {next(_NUMBERS)}.")
    return usage.evaluated_tokens / usage.prefill_seconds
