"""Training the starter on PyTorch beside TRL's SFTTrainer with PEFT, what a base in fewer bytes
saves, and what a second process brings.

Both train the same rank on the same layers of the same dense model and the same rows, once
through, in as many optimizer steps of as many tokens. Each run is a process of its own
(`bench.torch_run`), whose highest resident memory counts. TRL's packing without
FlashAttention lets the conversations of a row see each other: it is shown, and wrong.
Data is as for `bench.finetune`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.finetune import prepared_data, write_rows
from bench.report import table
from bench.setting import run, starter
from bench.shapes import TINYLLAMA, write_random_model

# TRL is at its fastest on a CPU with a row at a time, of 1, 2, 4 and 8.
ROWS, BATCH, STEPS = 16, 1, 2
ROUNDS = 3


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-torch-") as folder:
        rows = str(write_rows(prepared_data(Path(folder)), ROWS, Path(folder) / "rows.npz"))
        for dtype in ("float32", "bfloat16"):
            _against_trl(rows, dtype)
        _two_processes(rows)
        _bases(write_random_model(Path(folder) / "larger.gguf", TINYLLAMA, starter()))


def _against_trl(rows: str, dtype: str) -> None:
    arguments = (str(starter()), rows, str(BATCH), str(STEPS), dtype)
    names = ["openchat-local"]
    if importlib.util.find_spec("trl"):
        names.insert(0, "TRL")
        packed = child("TRL, packed", *arguments)
        print(
            f"- TRL, packed, whose rows mix: {packed['supervised'] / packed['seconds']:.1f} "
            f"supervised tokens/s, {packed['peak_bytes'] / 1024**3:.2f} GiB at the peak "
            f"({packed['configuration']})"
        )
    else:
        print("TRL is not installed (pip install 'openchat-local[bench]'), so it is left out.\n")
    speeds: dict[str, list[float]] = {name: [] for name in names}
    memory: dict[str, list[float]] = {name: [] for name in names}
    shown: dict[str, str] = {}
    for _ in range(ROUNDS):
        for name in names:
            found = child(name, *arguments)
            speeds[name].append(found["supervised"] / found["seconds"])
            memory[name].append(found["peak_bytes"] / 1024**3)
            shown[name] = found["configuration"]
    for name, configuration in shown.items():
        print(f"- {name}: {configuration}")
    print()
    print(table(speeds, f"supervised tokens/s, {dtype}", against=names[0]))
    print()
    print(table(memory, "GiB at the peak", against=names[0]))
    print()


def _two_processes(rows: str) -> None:
    arguments = ("openchat-local", str(starter()), rows, str(BATCH), str(STEPS), "float32")
    speeds: dict[str, list[float]] = {"one process": [], "two processes": []}
    for _ in range(ROUNDS):
        for number, speed in enumerate(speeds.values(), 1):
            found = child(*arguments, processes=number, OMP_NUM_THREADS="1")
            speed.append(found["supervised"] / found["seconds"])
    print("A thread each, joined by gloo over loopback:\n")
    print(table(speeds, "supervised tokens/s", against="one process"))
    print()


def _bases(model: Path) -> None:
    memory: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for base in ("dense", "blocks", "nf4"):
        if base == "nf4" and not importlib.util.find_spec("bitsandbytes"):
            continue
        found = child("step", base, str(model), "bfloat16")
        memory[base] = [found["peak_bytes"] / 1024**3]
        seconds[base] = [found["seconds"]]
    print("One step of 1 × 512 tokens on a 1.1B shape (TinyLlama's), bfloat16, checkpointed:\n")
    print(table(memory, "GiB at the peak", against="dense"))
    print()
    print(table(seconds, "seconds", against="dense"))
    print()


def child(*arguments: str, processes: int = 1, **environment: str) -> dict[str, Any]:
    """What a contender measured of itself."""
    launcher = (
        ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
        if processes > 1
        else []
    )
    done = run(sys.executable, *launcher, "-m", "bench.torch_run", *arguments, **environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
