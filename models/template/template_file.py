"""A chat template in a file of the user's, in place of the one that the model brings along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from openchat_local.models.errors import TemplateError
from openchat_local.models.gguf import GGUFFile

PREFIX = "file:"  # of a template's name: what follows is the path
_LARGEST = 4_000_000  # bytes; published ones have up to thirty thousand


def named(path: Path) -> str:
    """How the template in `path` is named in settings, chats and runs."""
    return f"{PREFIX}{path.expanduser().absolute()}"


def with_template_of(name: str, file: GGUFFile) -> GGUFFile:
    """`file` as if the template that `name` means were its own. Raises TemplateError."""
    path = Path(name.removeprefix(PREFIX)).expanduser()
    try:
        if path.stat().st_size > _LARGEST:
            raise TemplateError(f"{path} is not a chat template: it is larger than 4 MB.")
        source = path.read_text("utf-8-sig")
    except OSError as error:
        raise TemplateError(
            f"The chat template {path} cannot be read ({error.strerror}): name a file of Jinja "
            "text with --template-file, or a family with --template."
        ) from error
    except UnicodeDecodeError as error:
        raise TemplateError(f"The chat template {path} is not UTF-8 text: convert it.") from error
    if not source.strip():
        raise TemplateError(f"The chat template {path} is empty: name another file.")
    return replace(file, metadata={**file.metadata, "tokenizer.chat_template": source})
