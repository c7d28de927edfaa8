"""Training the starter beside `mlx_lm`, and what a quantised base, an adapter and packing cost.

Both train the same adapter on the same dense float32 model in memory and the same rows, once
through, in as many optimizer steps; OpenBLAS is loaded first for both. Each run is a process
of its own (`bench.finetune_run`), whose highest resident memory counts. Data is the file
that BENCH_DATA names, or else generated of the lengths of chat answers.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import table
from bench.setting import markdown_request, run, starter
from bench.shapes import TINYLLAMA, write_random_model
from openchat_local.finetune.adapter.gguf_file import write_gguf
from openchat_local.finetune.adapter.lora import LoraConfig, LoraPair, initial_lora, lora_shapes
from openchat_local.finetune.data.epoch import Layout, efficiency, plan_epoch
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.data.prepare import Prepared, prepare
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, Finished
from openchat_local.models.gguf import read_gguf
from openchat_local.models.library.adapter_file import AdapterCard
from openchat_local.models.template import choose_template
from openchat_local.models.template.vocabulary import Vocabulary

ROWS, BATCH = 16, 4
ROUNDS = 3
MAX_LENGTH = 2048


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-finetune-") as folder:
        data = prepared_data(Path(folder))
        _layouts(data)
        _against_mlx_lm(data, Path(folder))
        larger = write_random_model(Path(folder) / "larger.gguf", TINYLLAMA, starter())
        _quantised_base(larger)
        for model, tokens in ((starter(), 200), (larger, 32)):
            _decoding(model, tokens, Path(folder) / "adapter.gguf")


def prepared_data(folder: Path) -> Prepared:
    """The bench's conversations as rows, and how fast they became so."""
    named = os.environ.get("BENCH_DATA")
    path = Path(named) if named else generated_data(folder / "generated.jsonl")
    base = read_gguf(starter())
    template = choose_template(base, Vocabulary.open(base.path), None)
    seconds = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        options = DataOptions(held_out=0.0)
        data = prepare(path, options, template, MAX_LENGTH, folder / f"rows{number}")
        seconds.append(time.perf_counter() - started)
    tokens = int(data.train.lengths.sum())
    rates = sorted(tokens / value for value in seconds)
    print(
        f"Data: {path.name}, {len(data.train):,} conversations, {tokens:,} tokens. Reading, "
        f"checking, tokenising, weighing: {statistics.median(rates):,.0f} tokens/s "
        f"({rates[0]:,.0f}–{rates[-1]:,.0f}).\n"
    )
    return data


def generated_data(path: Path) -> Path:
    """480 conversations whose lengths are log-normal around 180 words, of two classes."""
    generator = random.Random(0)
    words = ("the", "of", "and", "to", "in", "is", "that", "for", "it", "was", "with", "be", "by")
    with path.open("w") as file:
        for number in range(480):
            count = min(int(generator.lognormvariate(5.1, 0.7)), 1400)
            messages = [
                {"role": "user", "content": " ".join(generator.choices(words, k=20))},
                {"role": "assistant", "content": " ".join(generator.choices(words, k=count))},
            ]
            name = "gpt4" if number % 10 == 0 else "gpt35"
            file.write(json.dumps({"messages": messages, "class": name}) + "\n")
    return path


def write_rows(data: Prepared, count: int, path: Path) -> Path:
    """Put rows drawn at random where `bench.finetune_run.read_rows` finds them."""
    chosen = np.random.default_rng(0).choice(len(data.train), count, replace=False)
    rows = [data.train[int(index)] for index in chosen]
    np.savez(
        path,
        lengths=[len(row.ids) for row in rows],
        ids=np.concatenate([row.ids for row in rows]),
        weights=np.concatenate([row.weights for row in rows]),
    )
    return path


def generated_rows(folder: Path, count: int) -> Path:
    """As `write_rows`, of generated conversations."""
    base = read_gguf(starter())
    template = choose_template(base, Vocabulary.open(base.path), None)
    options = DataOptions(held_out=0.0)
    path = generated_data(folder / "generated.jsonl")
    data = prepare(path, options, template, MAX_LENGTH, folder / "generated")
    return write_rows(data, count, folder / "rows.npz")


def _against_mlx_lm(data: Prepared, folder: Path) -> None:
    rows = write_rows(data, ROWS, folder / "rows.npz")
    speeds: dict[str, list[float]] = {"mlx_lm": [], "openchat-local": []}
    memory: dict[str, list[float]] = {"mlx_lm": [], "openchat-local": []}
    shown: dict[str, Any] = {}
    for _ in range(ROUNDS):
        for name, speed in speeds.items():
            result = child(name, str(starter()), str(rows), str(BATCH))
            speed.append(result["supervised"] / result["seconds"])
            memory[name].append(result["peak_bytes"] / 1024**3)
            shown[name] = result["configuration"]
    for name, configuration in shown.items():
        print(f"- {name}: {configuration}")
    print()
    print(table(speeds, "supervised tokens/s", against="mlx_lm"))
    print()
    print(table(memory, "GiB at the peak", against="mlx_lm"))
    print()


def _quantised_base(path: Path) -> None:
    memory: dict[str, list[float]] = {"float32 base": [], "quantised base": []}
    for name, kind in (("float32 base", "dense"), ("quantised base", "quantised")):
        memory[name].append(child(kind, str(path))["peak_bytes"] / 1024**3)
    print("One step of 1 × 128 tokens on a 1.1B shape (TinyLlama's), Q4_K blocks, checkpointed:\n")
    print(table(memory, "GiB at the peak", against="float32 base"))
    print()


def _decoding(model: Path, tokens: int, file: Path) -> None:
    base = read_gguf(model)
    lora = LoraConfig()
    random_numbers = np.random.default_rng(0)
    weights = {
        name: LoraPair(pair.a, 1e-3 * random_numbers.standard_normal(pair.b.shape, np.float32))
        for name, pair in initial_lora(lora_shapes(base, lora), lora, 0).items()
    }
    card = AdapterCard((), "chatml", base.name, base.fingerprint, None)
    write_gguf(file, weights, lora, base, card)
    speeds: dict[str, list[float]] = {"base": [], "with the adapter": []}
    engine = LocalEngine(EngineOptions(model, context=2048))
    for number in range(6):
        for name, path in (("base", None), ("with the adapter", file)):
            engine.set_adapter(path)
            *_, finished = engine.generate(markdown_request(tokens))
            assert isinstance(finished, Finished)
            if number:  # the first round reads the file
                speeds[name].append(finished.usage.tokens_per_second)
    engine.close()
    print(f"Decoding {base.name} with a rank-8 adapter on every linear layer:\n")
    print(table(speeds, "tokens/s", against="base"))
    print()


def _layouts(data: Prepared) -> None:
    lengths, classes = data.train.lengths, data.train.classes
    columns = max(int(lengths.max()), MAX_LENGTH)
    for name, layout in (
        ("packed", Layout(4096, 4096, columns, packing=True)),
        ("bucketed", Layout(4096, 1024, columns, packing=False)),
    ):
        found = efficiency(plan_epoch(lengths, classes, 0, 0, layout), lengths, classes)
        print(
            f"- {name}: {found.filled:.2%} of the positions hold tokens, every class in "
            f"{found.mixed:.0%} of {found.steps} steps"
        )
    print()


def child(*arguments: str) -> dict[str, Any]:
    """What a contender measured of itself."""
    done = run(sys.executable, "-m", "bench.finetune_run", *arguments)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
