"""Whether this machine's accelerator computes right, and how fast it trains: `make gpu`.

In under ten minutes, prints one block to be pasted into an issue. Without an accelerator it
does the same on the CPU. What is left out for lack of time, or of a package, is said.
"""

from __future__ import annotations

import importlib.util
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bench.finetune import child as mlx_child
from bench.finetune import generated_rows
from bench.setting import markdown_request, starter
from bench.shapes import TINYLLAMA, write_random_model
from bench.torch import child as torch_child
from openchat_local.finetune.adapter.gguf_file import write_gguf
from openchat_local.finetune.adapter.lora import LoraConfig, LoraPair, initial_lora, lora_shapes
from openchat_local.finetune.adapter.merging import merge
from openchat_local.finetune.backends.choose import choose_backend
from openchat_local.finetune.backends.trainer import OptimizerConfig, Trainer
from openchat_local.finetune.data.batches import Batch, Row, build_batch
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, TextDelta
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.library.adapter_file import AdapterCard
from openchat_local.models.template.vocabulary import Vocabulary

LAST_START = 8 * 60  # seconds after which nothing new is begun
LORA = LoraConfig(rank=8, alpha=16.0)
TEXT = "The harvest was late that year, and the river stood high until the first of November. "


@dataclass(frozen=True, slots=True)
class Machine:
    """`backends` are the ones to try, as names and devices for `choose_backend`."""

    accelerated: bool
    backends: tuple[tuple[str, str], ...]
    facts: tuple[str, ...]


def main() -> None:
    started = time.monotonic()
    machine = look()
    lines = ["```", *machine.facts, ""]
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as name:
        folder = Path(name)
        dense = _as_f32(starter(), folder)
        checks = list(_checks(machine, dense, folder))
        for what, check in checks:
            lines.append(_told(what, check))
            print(lines[-1], file=sys.stderr, flush=True)
        lines.append("")
        for what, contender in _contenders(machine, folder):
            late = time.monotonic() - started > LAST_START
            lines.append(f"{what:44}" + ("left out: no time" if late else _measured(contender)))
            print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join([*lines, f"{time.monotonic() - started:.0f} s in all", "```"]))


def look() -> Machine:
    """What this machine has."""
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    metal = _metal()
    backends = [("torch", str(found or "cpu"))]
    if metal or (found is None and importlib.util.find_spec("mlx_lm")):
        backends.insert(0, ("mlx", "auto"))
    chosen = [f"{name}: {choose_backend(name, device).why}" for name, device in backends]
    packages = ("openchat-local", "torch", "transformers", "mlx", "mlx-lm", "bitsandbytes", "trl")
    versions = [
        f"{package} {version(package)}"
        for package in packages
        if importlib.util.find_spec(package.replace("-", "_"))
    ]
    facts = (
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        ", ".join(versions),
        *chosen,
    )
    return Machine(found is not None or metal, tuple(backends), facts)


def _metal() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


# Is it right?


def _checks(
    machine: Machine, dense: GGUFFile, folder: Path
) -> Iterator[tuple[str, Callable[[], tuple[bool, str]]]]:
    for name, device in machine.backends:
        where = f"{name} on {device}" if name == "torch" else name
        yield (
            f"logits, {where} against llama.cpp",
            lambda n=name, d=device: _logits(n, d, dense, folder),
        )
        yield f"one step, {where} against float64", lambda n=name, d=device: _step(n, d, dense)
        if name == "torch":
            yield f"quantised blocks on {device}", lambda d=device: _blocks(d)
    yield "adapter swapped in chat and back", lambda: _swap(folder)


def _told(what: str, check: Callable[[], tuple[bool, str]]) -> str:
    try:
        right, detail = check()
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs into the block
        right, detail = False, f"{type(error).__name__}: {error}"
    return f"{'ok  ' if right else 'BAD '} {what}: {detail}"


def _logits(name: str, device: str, base: GGUFFile, folder: Path) -> tuple[bool, str]:
    """Four steps, exported, and llama.cpp's logits beside the trainer's."""
    trainer = _trainer(name, device, "float32", base)
    for _ in range(4):
        trainer.step([_batch(base)], 3e-3)
    ids = _batch(base).tokens[0, :48]
    path = folder / f"{name}.gguf"
    write_gguf(path, trainer.lora(), LORA, base, _card(base))
    expected = _llama_cpp(base, path, ids.tolist())
    error = float(np.abs(trainer.logits(ids) - expected).mean())
    return error < 0.01, f"mean error {error:.4f} (bound 0.01)"


def _step(name: str, device: str, base: GGUFFile) -> tuple[bool, str]:
    """Loss and gradients in the default precision beside torch's on the CPU in float64."""
    import torch

    from openchat_local.finetune.backends.torch.device import Precision
    from openchat_local.finetune.backends.torch.trainer import TorchTrainer

    exact = TorchTrainer(
        base, LORA, device=torch.device("cpu"), precision=Precision("float64", quantised=False)
    )
    expected, slopes = _one_step(exact, base)
    details, right = [], True
    bounds = {"float32": (1e-5, 1e-3), "bfloat16": (2e-2, 0.3)}
    if name == "mlx" and not _metal():
        del bounds["bfloat16"]  # minutes, and nobody trains so
    for precision, (loss_bound, bound) in bounds.items():
        loss, found = _one_step(_trainer(name, device, precision, base), base)
        far = max(
            float(np.linalg.norm(found[key] - slope) / np.linalg.norm(slope))
            for key, slope in slopes.items()
        )
        off = abs(loss - expected) / expected
        right = right and off < loss_bound and far < bound
        details.append(f"{precision} loss {off:.1e}, gradients {far:.1e}")
    return right, "; ".join(details)


def _blocks(device: str) -> tuple[bool, str]:
    """Random blocks of every type, multiplied out on the device and on the CPU."""
    import gguf
    import torch

    from openchat_local.finetune.backends.torch.packed import PACKED_TYPES, dequantise

    random = np.random.default_rng(0)
    wrong = []
    for type in sorted(PACKED_TYPES):
        size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type]][1]
        raw = torch.from_numpy(random.integers(0, 256, (64, size), np.uint8))
        here, there = dequantise(raw, type), dequantise(raw.to(device), type).cpu()
        if not torch.allclose(here, there, rtol=1e-5, atol=1e-5, equal_nan=True):
            wrong.append(type)
    return not wrong, f"wrong in {', '.join(wrong)}" if wrong else f"{len(PACKED_TYPES)} types"


def _swap(folder: Path) -> tuple[bool, str]:
    """Base, adapter, base again: the first and the last reply are the same, the adapter's is
    that of an engine which was started with it."""
    base = read_gguf(starter())
    path = folder / "swapped.gguf"
    random = np.random.default_rng(0)
    weights = {
        name: LoraPair(pair.a, 0.05 * random.standard_normal(pair.b.shape, np.float32))
        for name, pair in initial_lora(lora_shapes(base, LORA), LORA, 0).items()
    }
    write_gguf(path, weights, LORA, base, _card(base))
    with closing(LocalEngine(EngineOptions(base.path, context=1024))) as engine:
        before = _reply(engine)
        engine.set_adapter(path)
        adapted = _reply(engine)
        engine.set_adapter(None)
        after = _reply(engine)
    with closing(LocalEngine(EngineOptions(base.path, context=1024, adapter=path))) as engine:
        fresh = _reply(engine)
    right = before == after and adapted == fresh and adapted != before
    return right, "base = base, adapter = adapter" if right else "replies differ"


def _reply(engine: LocalEngine) -> str:
    events = engine.generate(markdown_request(24))
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def _one_step(trainer: Trainer, base: GGUFFile) -> tuple[float, dict[str, np.ndarray]]:
    """The loss and, as the optimizer's first moment, the gradients."""
    random = np.random.default_rng(1)
    trainer.set_lora(
        {
            name: LoraPair(pair.a, 0.02 * random.standard_normal(pair.b.shape, np.float32))
            for name, pair in initial_lora(lora_shapes(base, LORA), LORA, 0).items()
        }
    )
    loss = trainer.step([_batch(base)], 1e-3).loss
    state = trainer.state()
    return loss, {key: value for key, value in state.items() if key.startswith("mean.")}


def _trainer(name: str, device: str, precision: str, base: GGUFFile) -> Trainer:
    backend = choose_backend(name, device, precision)
    return backend.make(base, LORA, OptimizerConfig(), seed=0, checkpointing=False, quantised=False)


def _batch(base: GGUFFile) -> Batch:
    """Two conversations of real text in one row."""
    ids = np.array(Vocabulary.open(base.path).tokenize_content(TEXT * 4), np.int32)
    rows = [Row(part, np.ones(len(part), np.float32), 0, 1) for part in (ids[:48], ids[20:])]
    return build_batch(rows, [(0, 1)])


def _llama_cpp(base: GGUFFile, adapter: Path, ids: list[int]) -> np.ndarray:
    """(tokens, vocabulary) float32."""
    import llama_cpp.llama_cpp as llama

    from openchat_local.models.engine.decoding.llamacpp import Adapter, Context, Model, Rows

    model = Model(base)
    context = Context(model, size=256, threads=2, batch_threads=2)
    loaded = Adapter(model, adapter)
    context.set_adapter(loaded, 1.0)
    rows = []
    for position, id in enumerate(ids):
        context.decode([Rows(0, position, (id,))])
        pointer = llama.llama_get_logits_ith(context.pointer, -1)
        rows.append(np.ctypeslib.as_array(pointer, (base.vocab_size,)).copy())
    context.set_adapter(None)
    loaded.close()
    context.close()
    model.close()
    return np.stack(rows)


def _as_f32(model: Path, folder: Path) -> GGUFFile:
    """The model dequantised: merged with an adapter that changes nothing."""
    base = read_gguf(model)
    write_gguf(
        folder / "nothing.gguf", initial_lora(lora_shapes(base, LORA), LORA, 0), LORA, base,
        _card(base),
    )  # fmt: skip
    merge(folder / "nothing.gguf", model, folder / "f32.gguf", "f32")
    return read_gguf(folder / "f32.gguf")


def _card(base: GGUFFile) -> AdapterCard:
    return AdapterCard((), "chatml", base.name, base.fingerprint, None)


# How fast is it?


def _contenders(
    machine: Machine, folder: Path
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    many = machine.accelerated
    rows = str(generated_rows(folder, 128 if many else 16))
    batch = "8" if many else "4"
    names = ["openchat-local", *(["TRL"] if importlib.util.find_spec("trl") else [])]
    for dtype in ("bfloat16", "float32"):
        for name in names:
            yield (
                f"starter, {dtype}, {name}, torch",
                lambda n=name, d=dtype: torch_child(n, str(starter()), rows, batch, "4", d),
            )
    if ("mlx", "auto") in machine.backends:
        for name in ("openchat-local", "mlx_lm"):
            yield f"starter, {name}, MLX", lambda n=name: mlx_child(n, str(starter()), rows, batch)
    larger = str(write_random_model(folder / "larger.gguf", TINYLLAMA, starter()))
    for base in ("dense", "blocks", "nf4"):
        if base != "nf4" or importlib.util.find_spec("bitsandbytes"):
            yield (
                f"1.1B, one step of 512, bfloat16, {base}",
                lambda b=base: torch_child("step", b, larger, "bfloat16"),
            )


def _measured(contender: Callable[[], dict[str, Any]]) -> str:
    try:
        found = contender()
    except SystemExit as failure:  # what the child said of it
        return f"FAILED: {str(failure).strip().splitlines()[-1]}"
    speed = (
        f"{found['supervised'] / found['seconds']:8.0f} supervised tokens/s"
        if "supervised" in found
        else f"{found['seconds']:8.2f} s"
    )
    return f"{speed}, {found['peak_bytes'] / 1024**3:.2f} GiB at the peak"


if __name__ == "__main__":
    main()
