"""One contender of `bench.finetune`, in a process of its own; prints a line of JSON.

`python -m bench.finetune_run mlx_lm|openchat-local MODEL ROWS BATCH`, or
`… dense|quantised MODEL` for one step on that base.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.choose import choose_backend
from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.finetune.data.batches import Row, build_batch
from openchat_local.finetune.data.epoch import Layout, plan_epoch
from openchat_local.models.gguf import read_gguf

LORA = LoraConfig(rank=8, alpha=16.0)
RATE = 2e-4


def main(kind: str, model: str, *rest: str) -> None:
    result = (
        _one_step(kind, model) if kind in ("dense", "quantised") else _epoch(kind, model, *rest)
    )
    unit = 1 if sys.platform == "darwin" else 1024
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps(result))


def _epoch(kind: str, model: str, file: str, batch: str) -> dict[str, Any]:
    rows = read_rows(Path(file))
    train = {"mlx_lm": _mlx_lm, "openchat-local": _ours}[kind]
    result = train(Path(model), rows, int(batch))
    return result | {"supervised": sum(int(np.count_nonzero(row.weights)) for row in rows)}


def read_rows(file: Path) -> list[Row]:
    """What `bench.finetune.write_rows` wrote."""
    with np.load(file) as stored:
        ends = np.cumsum(stored["lengths"])[:-1]
        parts = zip(np.split(stored["ids"], ends), np.split(stored["weights"], ends), strict=True)
        return [Row(ids, weights, 0, line) for line, (ids, weights) in enumerate(parts, 1)]


def _ours(model: Path, rows: list[Row], batch: int) -> dict[str, Any]:
    backend = choose_backend("mlx")
    optimizer = OptimizerConfig(learning_rate=RATE, clip=0.0)
    trainer = backend.make(
        read_gguf(model), LORA, optimizer, seed=0, checkpointing=False, quantised=False
    )
    lengths = np.array([len(row.ids) for row in rows])
    steps = len(rows) // batch
    per_step = int(lengths.sum()) // steps + 1
    per_batch = min(per_step, backend.batch_positions or per_step)
    columns = int(lengths.max())
    if backend.packs:
        per_batch = max(per_batch, columns)
    layout = Layout(per_step, per_batch, columns, backend.packs)
    epoch = plan_epoch(lengths, np.zeros_like(lengths), 0, 0, layout)
    started = time.perf_counter()
    for step in epoch:
        trainer.step([build_batch(rows, each.groups, each.columns) for each in step], RATE)
    seconds = time.perf_counter() - started
    about = trainer.describe()
    return {
        "seconds": seconds,
        "configuration": f"{about['dtype']}, {about['blas']}, rank {LORA.rank} on all linear "
        f"layers of all blocks, AdamW {RATE}, no checkpointing, {len(epoch)} steps of about "
        f"{per_step} tokens in micro-batches of at most {per_batch} positions, "
        f"{'packed' if backend.packs else 'bucketed'}",
    }


def _mlx_lm(model: Path, rows: list[Row], batch: int) -> dict[str, Any]:
    importlib.import_module(
        "openchat_local.finetune.backends.mlx"
    )  # OpenBLAS, before anything of MLX

    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx_lm.tuner.trainer import TrainingArgs, train
    from mlx_lm.tuner.utils import linear_to_lora_layers

    from openchat_local.finetune.backends.mlx import OPENBLAS
    from openchat_local.finetune.backends.mlx.device import default_precision
    from openchat_local.finetune.backends.mlx.load import load_model

    network = load_model(read_gguf(model), default_precision())
    linear_to_lora_layers(
        network, len(network.layers), {"rank": 8, "scale": LORA.scale, "dropout": 0.0}
    )
    mx.eval(network.parameters())
    iterations = len(rows) // batch
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArgs(
            batch_size=batch,
            iters=iterations,
            steps_per_report=10**6,
            steps_per_save=10**6,
            adapter_file=str(Path(folder) / "adapters.safetensors"),
        )
        optimizer = optim.AdamW(RATE, bias_correction=True, weight_decay=0.0)
        started = time.perf_counter()
        train(network, optimizer, _Examples(rows), args=arguments)
        seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "configuration": f"float32, {OPENBLAS}, rank 8 on all linear layers of all blocks, "
        f"AdamW {RATE}, no checkpointing, {iterations} steps of {batch} rows, prompts masked",
    }


class _Examples:
    """Rows as mlx_lm's trainer takes them: ids, and where the supervised ones begin."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[list[int], int]:
        row = self._rows[index]
        return row.ids.tolist(), int(np.flatnonzero(row.weights)[0])


def _one_step(kind: str, model: str) -> dict[str, Any]:
    from openchat_local.finetune.backends.mlx.device import Precision
    from openchat_local.finetune.backends.mlx.trainer import MLXTrainer

    trainer = MLXTrainer(
        read_gguf(Path(model)), LORA, seed=0,
        precision=Precision("float32", quantised=kind == "quantised"), checkpointing=True,
    )  # fmt: skip
    ids = np.arange(1, 129, dtype=np.int32)
    row = Row(ids, np.concatenate([[0], np.ones(127)]).astype(np.float32), 0, 1)
    started = time.perf_counter()
    trainer.step([build_batch([row], [(0,)])], RATE)
    return {"seconds": time.perf_counter() - started}


if __name__ == "__main__":
    main(*sys.argv[1:])
