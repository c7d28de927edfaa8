"""Fine-tuning on MLX: Apple GPUs, and (for correctness more than speed) Linux CPUs.

Importing this package loads OpenBLAS, which must happen before anything imports `mlx`.
"""

from __future__ import annotations

from openchat_local.finetune.backends.mlx.blas import preload_openblas

OPENBLAS = preload_openblas()
