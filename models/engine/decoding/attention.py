"""Whether flash attention is the faster one on this machine's CPU.

It depends on the processor and on llama.cpp's kernels for it: on one host a token took a tenth
less with it, on another a fifth more. So both are timed once for each shape of heads, on a
model that has next to nothing but attention, and what came out is kept: a reply with a seed
of its own repeats only where it is decoded as it was.
"""

from __future__ import annotations

import json
import math
import os
import platform
import tempfile
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import llama_cpp
import llama_cpp.llama_cpp as llama

from openchat_local.models.engine.decoding.llamacpp import Context, Model, Rows
from openchat_local.models.errors import EngineError, ModelLoadError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.gguf.writer import Value, encoded, tensor, write_gguf_file
from openchat_local.models.memory import CPU_BATCH
from openchat_local.models.system.atomic import replacing

# Tokens in the cache while it is timed: more than most chats have, and fewer than hide what a
# short one would gain.
CELLS = 1024
_BLOCKS, _WIDTH, _VOCABULARY = 4, 64, 32
_ROUNDS, _FEWEST, _TOKENS = 16, 4, 4
# Heads that are timed; the others of a model do the same.
_HEADS = 8
# How much longer attention by itself may take, with one thread: with flash attention there is less
# to do around it, nodes of the graph above all, at which threads wait for each other. Where this
# ratio was 1.44, whole tokens of a small model took 7 % less time after 100 tokens, 3 % less after
# 300, and 1 % more after 1,500; at this bound they would be even after some 600.
_AS_FAST = 1.8
# An idle machine takes a quarter of a second. One that is too busy is asked again.
_SECONDS = 2.0


def flash_is_faster(file: GGUFFile, findings: Path | None) -> bool:
    """Whether to decode `file` with flash attention on this CPU.

    `findings` is a file that remembers; None leaves flash attention out, unmeasured. So does
    what cannot be timed now, or kept: the next start might find something else.
    """
    if findings is None or not file.head_count:
        return False
    heads = min(_HEADS, file.head_count)
    kv_heads = max(1, heads * file.head_count_kv // file.head_count)
    heads -= heads % kv_heads
    widths = file.key_length, file.value_length
    machine = llama.llama_print_system_info().decode("utf-8", "replace").strip()
    key = f"{platform.machine()} | {machine} | llama-cpp-python {llama_cpp.__version__} | "
    key += f"heads {heads} {kv_heads} {widths[0]} {widths[1]}"
    known = _read(findings)
    ratio = known.get(key)
    if not isinstance(ratio, float):
        ratio = _ratio(heads, kv_heads, widths)
        if ratio is None or not _write(findings, known | {key: ratio}):
            return False
    return ratio <= _AS_FAST


class _WithoutVocabulary(Model):
    """A model that is decoded with ids that mean nothing."""

    def __init__(self, path: Path) -> None:
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.pointer = llama.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self.pointer:
            raise ModelLoadError(f"llama.cpp could not load {path}.")


def _ratio(heads: int, kv_heads: int, widths: tuple[int, int]) -> float | None:
    """Seconds of a token with flash attention over those without; None where the machine is
    too busy to tell, or has no room for it. One thread, which has a core of its own even while the
    program starts: several would wait for each other, and the ratio is another then."""
    deadline = time.perf_counter() + _SECONDS
    with (
        suppress(ModelLoadError, EngineError, OSError),
        tempfile.TemporaryDirectory(prefix="openchat-local-") as folder,
        ExitStack() as stack,
    ):
        path = Path(folder) / "attention.gguf"
        _write_model(path, heads, kv_heads, widths)
        model = stack.enter_context(closing(_WithoutVocabulary(path)))
        contexts = []
        for flash in (True, False):
            context = Context(model, size=2 * CELLS, threads=1, batch_threads=1, flash=flash)
            contexts.append(stack.enter_context(closing(context)))
            if not _filled(context, deadline):
                return None
        best = [math.inf, math.inf]
        for number in range(_ROUNDS):
            if time.perf_counter() > deadline:
                return None if number < _FEWEST else best[0] / best[1]
            # What else the machine does only adds to the time.
            best = [min(known, _timed(one)) for known, one in zip(best, contexts, strict=True)]
        return best[0] / best[1]
    return None


def _filled(context: Context, deadline: float) -> bool:
    """Whether the cache could be filled before the deadline."""
    for start in range(0, CELLS, CPU_BATCH):
        if time.perf_counter() > deadline:
            return False
        context.decode([Rows(0, start, [1] * CPU_BATCH)])
    return True


def _timed(context: Context) -> float:
    """Seconds of a few tokens."""
    started = time.perf_counter()
    for index in range(_TOKENS):
        context.decode([Rows(0, CELLS + index, [1])])
    seconds = time.perf_counter() - started
    context.cut(0, CELLS)
    return seconds


def _write_model(path: Path, heads: int, kv_heads: int, widths: tuple[int, int]) -> None:
    """A model of zeros with heads like these, and hardly anything else."""
    key, value = widths
    wide: dict[str, tuple[int, ...]] = {
        "attn_q": (_WIDTH, heads * key),
        "attn_k": (_WIDTH, kv_heads * key),
        "attn_v": (_WIDTH, kv_heads * value),
        "attn_output": (heads * value, _WIDTH),
        "ffn_gate": (_WIDTH, _WIDTH),
        "ffn_up": (_WIDTH, _WIDTH),
        "ffn_down": (_WIDTH, _WIDTH),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (_WIDTH, _VOCABULARY),
        "output_norm.weight": (_WIDTH,),
    }
    for block in range(_BLOCKS):
        shapes |= {f"blk.{block}.{name}.weight": shape for name, shape in wide.items()}
        shapes |= {f"blk.{block}.{name}.weight": (_WIDTH,) for name in ("attn_norm", "ffn_norm")}
    tensors = [
        tensor(name, shape, "F16" if len(shape) > 1 else "F32") for name, shape in shapes.items()
    ]
    fields: dict[str, Value] = {
        "general.architecture": "llama",
        "general.name": "attention",
        "llama.context_length": 2 * CELLS,
        "llama.embedding_length": _WIDTH,
        "llama.block_count": _BLOCKS,
        "llama.feed_forward_length": _WIDTH,
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": kv_heads,
        "llama.attention.key_length": key,
        "llama.attention.value_length": value,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": key,
        "llama.vocab_size": _VOCABULARY,
        "tokenizer.ggml.model": "no_vocab",
    }
    with path.open("wb") as out:
        write_gguf_file(
            out,
            {name: encoded(value) for name, value in fields.items()},
            tensors,
            ([bytes(one.byte_size)] for one in tensors),
        )


def _read(findings: Path) -> dict[str, object]:
    try:
        known = json.loads(findings.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(findings: Path, known: dict[str, object]) -> bool:
    try:
        with replacing(findings) as part:
            part.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    except OSError:
        return False
    return True
