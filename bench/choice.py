"""Multiple choice: the engine beside a raw prefill that asks for the same logits, and the table.

`BENCH_CHOICE` names a folder of questions. A few of each set are asked in turns: the raw
contender evaluates every distinct text once, from its beginning, and does nothing with its
logits; the engine shares what texts begin alike with. Then all questions are asked once.
`BENCH_MODEL` names another model than the starter, `BENCH_ADAPTER` an adapter to compare.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

import psutil

from bench.raw_logits import RawLogits, Text
from bench.report import interleave, table
from bench.setting import findings, program, rounds, run, starter
from openchat_local.finetune.evaluation.choice.prompts import Pair, writer_for
from openchat_local.finetune.evaluation.choice.reading import read_sets
from openchat_local.finetune.evaluation.contender import contender
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, ScoreRequest

EACH = 4  # questions of a set that the contenders take turns with
_SETS = "BENCH_CHOICE"


def main() -> None:
    folder = os.environ.get(_SETS)
    if not folder:
        print(f"Left out: {_SETS} names no folder of questions.")
        return
    model = Path(os.environ.get("BENCH_MODEL") or starter())
    _beside_a_prefill(model, Path(folder))
    arguments = ["eval", "choice", folder, "-m", str(model), "--skip-bad"]
    if adapter := os.environ.get("BENCH_ADAPTER"):
        arguments += ["--adapter", adapter]
    with tempfile.TemporaryDirectory() as home:
        print(run(*program(*arguments), OPENCHAT_LOCAL_HOME=home, COLUMNS="160").stdout)


def _beside_a_prefill(model: Path, folder: Path) -> None:
    writer = writer_for(contender("base", model))
    sets = read_sets([folder], skip_bad=True, limit=EACH)
    pairs = [pair for one in sets for each in one.questions for pair in writer.options(each)]
    texts = _distinct(pairs)
    tokens = sum(len(ids) for ids, _ in texts)
    longest = max(len(ids) for ids, _ in texts)
    threads = psutil.cpu_count(logical=False) or 1
    with (
        closing(RawLogits(model, threads, longest)) as raw,
        closing(LocalEngine(EngineOptions(model, findings=findings()))) as engine,
    ):
        engine.load()
        requests = [ScoreRequest(*pair) for pair in pairs]
        evaluated = sum(one.tokens - one.shared_tokens for one in engine.score(requests))
        print(
            f"{len(pairs)} options, {len(texts)} distinct texts of {tokens:,} tokens, of which the "
            f"engine evaluates {evaluated:,}\n"
        )

        contenders = {
            "raw prefill": lambda: tokens / raw.seconds(texts),
            "engine": lambda: tokens / _seconds(engine, requests),
        }
        samples = interleave(contenders, rounds(3))
        print(table(samples, "tokens/s", "raw prefill"), "\n")
        rates = [statistics.median(samples[name]) for name in ("engine", "raw prefill")]
        share = evaluated / tokens
        print(
            f"Of the tokens that it evaluates the engine does {rates[0] * share:,.0f} a second, "
            f"{rates[0] / rates[1] * share:.2f} of the raw prefill.\n",
            flush=True,
        )


def _distinct(pairs: list[Pair]) -> list[Text]:
    """What has to go through a model: the texts without their last token, and from which row on
    logits are wanted. Options of one token each are one text."""
    first: dict[tuple[int, ...], int] = {}
    for prompt, continuation in pairs:
        ids = (*prompt, *continuation[:-1])
        first[ids] = min(first.get(ids, len(ids)), len(prompt) - 1)
    return [*first.items()]


def _seconds(engine: LocalEngine, requests: list[ScoreRequest]) -> float:
    started = time.perf_counter()
    for _ in engine.score(requests):
        pass
    return time.perf_counter() - started
