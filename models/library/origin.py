"""Where the weights that a GGUF file was made of lie on the Hugging Face hub."""

from __future__ import annotations

import re

from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.library.catalog import catalog
from openchat_local.models.library.resolve import model_name
from openchat_local.models.library.store import split_reference
from openchat_local.models.memory import shape_of

# What a converter writes of the folder that it read; not `general.base_model.*`, which are the
# models that this one was itself tuned from.
_KEYS = (
    "general.source.huggingface.repository",
    "general.source.repo_url",
    "general.source.url",
    "general.repo_url",
)
_REPOSITORY = re.compile(
    r"(?:https?://(?:www\.)?huggingface\.co/)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/?", re.ASCII
)


def hub_repository(file: GGUFFile) -> str | None:
    """OWNER/REPOSITORY of the model in `file`, in a form that Hugging Face's programs load; None
    where neither the file nor the catalogue tells."""
    for key in _KEYS:
        value = file.metadata.get(key)
        found = _REPOSITORY.fullmatch(value) if isinstance(value, str) else None
        if found is not None and not found[1].lower().endswith("gguf"):
            return found[1]
    known = catalog().get(split_reference(model_name(file.path))[0])
    try:
        same = known is not None and shape_of(file) == known.memory_shape
    except ModelFileError:
        return None
    return known.original or None if known is not None and same else None
