"""GGUF files: read with suspicion, since they come from anywhere, and written."""

from openchat_local.models.gguf.file import GGUFFile, Tensor, read_gguf

__all__ = ["GGUFFile", "Tensor", "read_gguf"]
