"""Scoring: the engine beside a raw prefill that asks for the same logits.

Both live through all rounds and take turns. The raw one decodes a text at a time, all rows in
one batch, and does nothing with its logits; the engine also makes log-probabilities of them. Texts
have random tokens. `BENCH_MODEL` names another model than the starter.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil

from bench.raw_logits import RawLogits
from bench.report import interleave, table
from bench.setting import findings, markdown_request, starter
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, ScoreRequest, TextDelta

ROUNDS = 5
REPLY_TOKENS = 200
_RANDOM = np.random.default_rng(0)


@dataclass(frozen=True, slots=True)
class Workload:
    """`count` prompts of `prompt` tokens after `common` ones, each with `options` continuations
    of `continuation` tokens."""

    name: str
    count: int
    prompt: int
    continuation: int
    options: int = 1
    common: int = 0

    def requests(self) -> list[ScoreRequest]:
        common = _ids(self.common)
        prompts = [(*common, *_ids(self.prompt)) for _ in range(self.count)]
        return [
            ScoreRequest(prompt, _ids(self.continuation))
            for prompt in prompts
            for _ in range(self.options)
        ]


WORKLOADS = (
    Workload("whole texts", count=8, prompt=1, continuation=255),
    Workload("answers to prompts", count=16, prompt=96, continuation=32),
    Workload("4 options a question, 200 tokens before all", 6, 40, 8, options=4, common=200),
)


def main() -> None:
    model = Path(os.environ.get("BENCH_MODEL") or starter())
    threads = psutil.cpu_count(logical=False) or 1
    with closing(RawLogits(model, threads)) as raw, closing(_engine(model)) as engine:
        for workload in WORKLOADS:
            requests = workload.requests()
            tokens = sum(_evaluated(each) for each in requests)
            texts = [
                ((*each.prompt, *each.continuation[:-1]), len(each.prompt) - 1)
                for each in requests
                if isinstance(each.prompt, tuple)
            ]
            shared = sum(score.shared_tokens for score in engine.score(requests))
            print(
                f"{workload.name}: {len(requests)} requests, {tokens:,} tokens, of which the "
                f"engine shares {shared:,}\n"
            )
            contenders = {
                "raw prefill": lambda t=texts, n=tokens: n / raw.seconds(t),
                "engine": lambda r=requests, n=tokens: n / _seconds(engine, r),
            }
            print(table(interleave(contenders, ROUNDS), "tokens/s", "raw prefill"), "\n")
        _beside_a_reply(engine)


def _beside_a_reply(engine: LocalEngine) -> None:
    """How long a reply waits for its next token while scores are made."""
    alone, _ = _gaps(engine)
    scoring = threading.Event()
    scored = 0

    def score() -> None:
        nonlocal scored
        while scoring.is_set():
            scores = engine.score(WORKLOADS[1].requests())
            for one in scores:
                scored += one.tokens - one.shared_tokens
                if not scoring.is_set():
                    scores.close()

    scoring.set()
    thread = threading.Thread(target=score)
    thread.start()
    beside, seconds = _gaps(engine)
    scoring.clear()
    thread.join()
    print("A reply beside scores, milliseconds from token to token:\n")
    print("| | median | longest |\n|---|---|---|")
    for name, gaps in (("alone", alone), ("beside scores", beside)):
        print(f"| {name} | {1e3 * statistics.median(gaps):.1f} | {1e3 * max(gaps):.1f} |")
    print(f"\nMeanwhile {scored / seconds:,.0f} tokens/s were scored.")


def _gaps(engine: LocalEngine) -> tuple[list[float], float]:
    """The seconds between the texts of a reply, and those of the whole."""
    started = last = time.perf_counter()
    gaps = []
    request = replace(markdown_request(REPLY_TOKENS), update_interval=0.0)
    for event in engine.generate(request):
        if isinstance(event, TextDelta):
            now = time.perf_counter()
            gaps.append(now - last)
            last = now
    return gaps[1:], last - started


def _engine(model: Path) -> LocalEngine:
    engine = LocalEngine(EngineOptions(model, context=2048, findings=findings()))
    engine.load()
    return engine


def _seconds(engine: LocalEngine, requests: list[ScoreRequest]) -> float:
    started = time.perf_counter()
    for _ in engine.score(requests):
        pass
    return time.perf_counter() - started


def _evaluated(request: ScoreRequest) -> int:
    assert isinstance(request.prompt, tuple)
    return len(request.prompt) + len(request.continuation) - 1


def _ids(count: int) -> tuple[int, ...]:
    return tuple(int(id) for id in _RANDOM.integers(300, 30000, count))
