"""Does a model fit: the memory that it will take in use, and what this machine has.

The one place that predicts. `bench/memory.py` holds the prediction against what the engine
really takes; the constants below were measured there with llama-cpp-python 0.3.36.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from openchat_local.models.gguf import GGUFFile
from openchat_local.models.gguf.header import GGML_TYPES
from openchat_local.models.system.machine import GPUMemory, MachineMemory, machine_memory

__all__ = [
    "DEFAULT_CONTEXT", "GPUMemory", "MachineMemory", "MemoryNeed", "ModelShape", "Verdict",
    "cache_bytes",
    "gpu_layers_that_fit", "machine_memory", "predict", "predict_from_shape", "shape_of", "verdict",
]  # fmt: skip

Verdict = Literal["fits", "tight", "does not fit"]

# Enough for a long chat; more costs memory that a laptop wants for other things.
DEFAULT_CONTEXT = 8192

# The largest chunk of a prompt that is decoded in one call: llama.cpp's own default. The size
# of its compute buffers follows it.
BATCH = 512
# As many are decoded at once without a GPU, where the scores of all of them against the whole
# cache are held in memory.
CPU_BATCH = 64
# With flash attention there are no such scores, and fewer rows read the cache too often: past
# 1,000 tokens 64 took a tenth longer a token than these, and four times as many a tenth less.
FLASH_BATCH = 128
# Rows of a batch whose logits can be asked for.
OUTPUT_ROWS = 32
# llama.cpp reserves KV cells in steps.
_CONTEXT_STEP = 256
# The engine's process before it has a model (Python, NumPy, llama.cpp's code), and what
# llama.cpp's tables keep for each token of the vocabulary.
_PROCESS = 44 * 1024**2
_PER_TOKEN = 400
# Live at once in the feed-forward of a block, in float32: gate, up and their product; the
# residual stream, its normed copy, and two more of that width.
_HIDDEN_TENSORS = 3
_WIDE_TENSORS = 4
# On the CPU: queries, keys, values, the residual stream and two more of its width.
_ATTENTION_TENSORS = 6
# Of what is free now, what a model may take and leave the user's other programs in peace; of
# all there is, what it may take when they make room.
_COMFORTABLE = 0.9
_POSSIBLE = 0.85
# Of a GPU's free memory, what its driver does not want for itself.
_GPU_SHARE = 0.92

_BLOCKS = {name.lower(): (block, size) for name, block, size in GGML_TYPES.values()}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A transformer's numbers: `width` of the residual stream, `feed_forward` inside of a
    block (0 where it is not known), `vocabulary` in tokens. Where layers differ, each is the
    largest."""

    blocks: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    feed_forward: int = 0

    @property
    def kv_values_per_token(self) -> int:
        """Numbers that one token leaves in the KV cache."""
        return self.blocks * self.kv_heads * 2 * self.head_width


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that are resident while a model writes: its `weights`, the `kv` cache of the whole
    context, and `buffers`: intermediate results, the vocabulary, and the process itself."""

    weights: int
    kv: int
    buffers: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.buffers


def shape_of(file: GGUFFile) -> ModelShape:
    """What `file` says of its shape. Raises ModelFileError if it does not say enough."""
    return ModelShape(
        blocks=file.block_count,
        width=file.embedding_length,
        heads=file.head_count,
        kv_heads=file.head_count_kv,
        head_width=max(file.key_length, file.value_length),
        vocabulary=file.vocab_size,
        feed_forward=file.feed_forward_length,
    )


def predict(
    file: GGUFFile, context: int, *, kv_type: str = "f16", batch: int = BATCH
) -> MemoryNeed:
    """What `file` takes with a context of `context` tokens, `batch` of them decoded at once.

    `kv_type` is a ggml type in lower case, such as "q8_0". The KV cache is an upper bound where
    layers attend to a sliding window. Raises ModelFileError if the file does not say enough,
    ValueError for an unknown `kv_type`.
    """
    # Of an embedding that is not the output layer as well, a chat looks up a few rows.
    unread = "token_embd.weight" if _has_output(file) else None
    weights = sum(tensor.byte_size for tensor in file.tensors if tensor.name != unread)
    values = file.kv_bytes_per_token(type_size=1)
    kv = _kv_bytes(values, context, kv_type)
    return MemoryNeed(weights, kv, _buffers(shape_of(file), context, batch, kv_type))


def predict_from_shape(
    shape: ModelShape, weight_bytes: int, context: int, *, kv_type: str = "f16", batch: int = BATCH
) -> MemoryNeed:
    """Like `predict`, for a file that is not here: `weight_bytes` is its size."""
    kv = _kv_bytes(shape.kv_values_per_token, context, kv_type)
    return MemoryNeed(weight_bytes, kv, _buffers(shape, context, batch, kv_type))


def cache_bytes(values: int, kv_type: str) -> int:
    """Bytes that so many numbers take in a KV cache of this type. Raises ValueError for an
    unknown one."""
    if kv_type not in _BLOCKS:
        raise ValueError(f"{kv_type!r} is not a type of ggml")
    block, size = _BLOCKS[kv_type]
    return values * size // block


def compute_bytes(shape: ModelShape, context: int, batch: int = BATCH) -> int:
    """Bytes of llama.cpp's compute buffer: the widest moment of a block, or the logits of the
    rows that are asked for, and the attention mask (float16) throughout."""
    per_token = 4 * (_HIDDEN_TENSORS * _hidden(shape) + _WIDE_TENSORS * shape.width)
    return batch * (per_token + 2 * _padded(context)) + 4 * OUTPUT_ROWS * shape.vocabulary


def _score_bytes(shape: ModelShape, context: int) -> int:
    """Bytes of the compute buffer where there is no flash attention: the scores of a chunk, in
    float32 for each head, and the mask."""
    scores = _padded(context) * (shape.heads + 1)
    return 4 * CPU_BATCH * (scores + _ATTENTION_TENSORS * shape.width)


def verdict(need: int, machine: MachineMemory) -> Verdict:
    """Whether `need` bytes "fits" into what is free now, is "tight" (only when other programs
    give memory back), or "does not fit" at all."""
    gpu = machine.gpu
    beside = gpu if gpu is not None and not gpu.unified else None
    if need <= _COMFORTABLE * (machine.available + (beside.free if beside else 0)):
        return "fits"
    if need <= _POSSIBLE * (machine.total + (beside.total if beside else 0)):
        return "tight"
    return "does not fit"


def gpu_layers_that_fit(
    file: GGUFFile, context: int, gpu: GPUMemory | None, *, kv_type: str = "f16"
) -> int:
    """How many layers the GPU has room for, as llama.cpp counts them: from the output layer,
    the first, down to block 0; `block_count + 1` are all. 0 without a GPU.

    A layer brings its part of the KV cache along; any layer needs the compute buffer.
    """
    if gpu is None:
        return 0
    room = int(gpu.free * _GPU_SHARE) - compute_bytes(shape_of(file), context)
    heads = file.head_counts_kv
    costs = [0] * (file.block_count + 1)
    for tensor in file.tensors:
        part, _, rest = tensor.name.partition(".")
        number = rest.partition(".")[0]
        if part == "blk" and number.isdigit() and int(number) < file.block_count:
            costs[int(number)] += tensor.byte_size
        elif part != "token_embd" or not _has_output(file):
            costs[-1] += tensor.byte_size
    per_head = file.key_length + file.value_length
    for block, count in enumerate(heads):
        costs[block] += _kv_bytes(count * per_head, context, kv_type)
    layers = 0
    for cost in reversed(costs):
        room -= cost
        if room < 0:
            break
        layers += 1
    return layers


def _has_output(file: GGUFFile) -> bool:
    return any(tensor.name == "output.weight" for tensor in file.tensors)


def _kv_bytes(values_per_token: int, context: int, kv_type: str) -> int:
    return _padded(context) * cache_bytes(values_per_token, kv_type)


def _buffers(shape: ModelShape, context: int, batch: int, kv_type: str) -> int:
    # The CPU quantises its activations to 8 bits before a product, with room for a scale.
    quantised = batch * _hidden(shape) * 9 // 8
    vocabulary = shape.vocabulary * _PER_TOKEN
    compute = compute_bytes(shape, context, batch)
    if kv_type == "f16":  # others are read by flash attention
        compute = max(compute, _score_bytes(shape, context))
    return compute + quantised + vocabulary + _PROCESS


def _hidden(shape: ModelShape) -> int:
    # Three and a half times the width is what Mistral and Llama 3 have.
    return shape.feed_forward or shape.width * 7 // 2


def _padded(context: int) -> int:
    return -(-context // _CONTEXT_STEP) * _CONTEXT_STEP
