"""What is installed on this machine: from a name or a path to a GGUF file."""

from openchat_local.models.library.card import ModelCard
from openchat_local.models.library.resolve import installed_path, model_name, resolve_model
from openchat_local.models.library.store import InstalledModel, ModelLibrary
from openchat_local.models.library.use import hold

__all__ = [
    "InstalledModel",
    "ModelCard",
    "ModelLibrary",
    "hold",
    "installed_path",
    "model_name",
    "resolve_model",
]
