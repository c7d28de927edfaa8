"""What a model takes in memory: predicted, and as the engine's process really holds it.

Three shapes, two contexts each; and what sequences take that wait in the cache to be gone on
with. The prompt is nearly a whole batch of 512 tokens, which has
been through the compute buffers then; the KV cache is resident from the beginning.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median

import psutil

from bench.setting import findings, rounds, starter
from bench.shapes import OPENCHAT_7B, TINYLLAMA, write_openchat_vocabulary, write_random_model
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, GenerationRequest, Sampling
from openchat_local.models.gguf import read_gguf
from openchat_local.models.memory import predict

CONTEXTS = (2048, 8192)
IDLE = 4
PROMPT = "Rivers follow the slope of the land, joining others on the way to the sea. " * 27


def main() -> None:
    print("| | context | weights | KV | buffers | predicted MiB | measured | error |")
    print("|---|---|---|---|---|---|---|---|")
    _compare("starter, 135M", starter())
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = write_openchat_vocabulary(Path(folder) / "vocabulary.gguf")
        for shape in (replace(TINYLLAMA, context=8192), OPENCHAT_7B):
            model = write_random_model(Path(folder) / "model.gguf", shape, vocabulary)
            _compare(shape.name, model)
            model.unlink()
    print(f"\n| starter, {CONTEXTS[-1]:,} | measured MiB |\n|---|---|")
    for name, sequences, asked in (
        ("one sequence at most", 1, 1),
        (f"{IDLE} at most, one idle", IDLE, 1),
        (f"{IDLE} at most, {IDLE} idle", IDLE, IDLE),
    ):
        found = median(
            _resident(starter(), CONTEXTS[-1], sequences, asked) for _ in range(rounds(3))
        )
        print(f"| {name} | {found / 2**20:,.1f} |", flush=True)


def _compare(name: str, model: Path) -> None:
    for context in CONTEXTS:
        need = predict(read_gguf(model), context)
        measured = _resident(model, context)
        parts = " | ".join(f"{part / 2**20:,.0f}" for part in (need.weights, need.kv, need.buffers))
        print(
            f"| {name} | {context:,} | {parts} | {need.total / 2**20:,.0f} | "
            f"{measured / 2**20:,.0f} | **{100 * (need.total / measured - 1):+.1f} %** |",
            flush=True,
        )


def _resident(model: Path, context: int, sequences: int = 8, asked: int = 1) -> int:
    """Bytes of the engine's process after so many replies, each in a chat of its own."""
    options = EngineOptions(model, context=context, sequences=sequences, findings=findings())
    with closing(LocalEngine(options)) as engine:
        engine.load()
        for number in range(1, asked + 1):
            conversation = Conversation((Message("user", f"{number}. {PROMPT}"),))
            sampling = Sampling(temperature=0.0, max_tokens=8)
            for _ in engine.generate(
                GenerationRequest(conversation, sampling, chat_key=f"chat-{number}")
            ):
                pass
        resident: int = psutil.Process(engine.pid).memory_info().rss
    return resident
