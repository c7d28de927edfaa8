"""An adapter as files: GGUF for chat, PEFT for others, or merged into its model."""

from openchat_local.finetune.adapter.gguf_file import read_gguf_adapter, write_gguf
from openchat_local.finetune.adapter.merging import MERGE_TYPES, merge
from openchat_local.finetune.adapter.peft import (
    from_hugging_face_rows,
    to_hugging_face_rows,
    write_peft,
)
from openchat_local.finetune.adapter.peft_reading import read_peft, told_base

__all__ = [
    "MERGE_TYPES",
    "from_hugging_face_rows",
    "merge",
    "read_gguf_adapter",
    "read_peft",
    "to_hugging_face_rows",
    "told_base",
    "write_gguf",
    "write_peft",
]
