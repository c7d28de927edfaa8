"""Names that may be folders on every system."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Names that Windows keeps for devices, whatever the extension.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def is_folder_name(name: str) -> bool:
    """Up to 64 letters, digits, dots, dashes and underscores, a letter or digit first; no
    device of Windows, and nothing that could be taken for a .gguf file."""
    return (
        _NAME.fullmatch(name) is not None
        and _DEVICES.fullmatch(name) is None
        and not name.endswith((".", ".gguf"))
    )
