"""What can be trained: a table for each of llama.cpp's architectures."""

from openchat_local.finetune.architectures.known import (
    ARCHITECTURES,
    FAMILIES,
    architecture_of,
    not_yet,
)
from openchat_local.finetune.architectures.table import Architecture, Linear, number

__all__ = [
    "ARCHITECTURES", "FAMILIES", "Architecture", "Linear", "architecture_of", "not_yet", "number",
]  # fmt: skip
