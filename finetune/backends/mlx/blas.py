"""A fast BLAS for MLX on Linux, where its wheel carries a slow reference one.

OpenBLAS multiplies float32 matrices 30 times as fast (240 against 4 to 8 GFLOP/s, two
cores). A library that is already loaded with global symbols comes first when the dynamic
linker binds MLX's own calls, so it is enough to load OpenBLAS before MLX.
"""

from __future__ import annotations

import ctypes
import sys

# Sonames of builds with 32-bit integers; those with 64-bit ones would corrupt memory.
_SONAMES = ("libopenblas.so.0", "libopenblasp.so.0")

NO_OPENBLAS = (
    "Training runs without OpenBLAS, many times slower than it could: "
    "install it (Debian: apt install libopenblas0-pthread; Fedora: dnf install openblas)."
)


def preload_openblas() -> str | None:
    """Load OpenBLAS for MLX; its soname, or None where it is absent or not needed."""
    if sys.platform != "linux" or "mlx.core" in sys.modules:
        return None
    for name in _SONAMES:
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return name
    return None
