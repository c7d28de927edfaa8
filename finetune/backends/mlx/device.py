"""What MLX computes on, in which precision, and what it says when memory is short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import mlx.core as mx

from openchat_local.finetune.backends.memory import tells_of_memory

# MLX keeps freed buffers for reuse and by default without bound, so that rows of ever
# different lengths fill the memory.
CACHE_LIMIT = 512 * 2**20

DType = Literal["float32", "float16", "bfloat16"]
_DTYPES: dict[DType, mx.Dtype] = {
    "float32": mx.float32,
    "float16": mx.float16,
    "bfloat16": mx.bfloat16,
}


@dataclass(frozen=True, slots=True)
class Precision:
    """How the base is held and multiplied.

    `dtype` is that of activations, dense weights, and the scales of quantised ones. On Q4_K
    of normally distributed weights, float32 scales are exact, float16 ones cost 7e-4
    relative RMS, bfloat16 5e-3.
    (On a CPU, MLX also sums quantised products in `dtype`, which costs far more.)
    `quantised` keeps quantised layers quantised (QLoRA); otherwise they are made dense.
    """

    dtype: DType
    quantised: bool

    @property
    def mx_dtype(self) -> mx.Dtype:
        return _DTYPES[self.dtype]


def default_precision() -> Precision:
    """bfloat16 on the quantised base on Metal; dense float32 on a CPU, whose half-precision
    and quantised products are slow whatever one does."""
    if mx.metal.is_available():
        return Precision("bfloat16", quantised=True)
    return Precision("float32", quantised=False)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise the failed allocations that MLX reports as MemoryError.

    Not all are reported: Metal may abort the process in the middle of its work, and on a CPU
    MLX 0.32 writes through the null pointer (SIGSEGV). Training runs in a child for that.
    """
    try:
        yield
    except RuntimeError as error:
        if tells_of_memory(str(error)):
            raise MemoryError(str(error)) from error
        raise
