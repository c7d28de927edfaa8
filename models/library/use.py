"""Which installed models are being used, by any process of this user.

Whoever has a model loaded holds a shared lock on a file beside it, which the system drops
with the process however that ends; who wants to remove the model needs the lock alone.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from openchat_local.models.library.card import CARD
from openchat_local.models.system.file_lock import try_lock

LOCK = "in-use.lock"


def hold(model: Path) -> int | None:
    """Note that this process uses the file `model`, until it ends or closes the descriptor.

    None where there is nothing to note: a file that is not in the library, or a folder that
    cannot be written. Windows never deletes a file that is mapped into memory.
    """
    if os.name == "nt" or not (model.parent / CARD).is_file():
        return None
    with suppress(OSError):
        return try_lock(model.parent / LOCK, shared=True)
    return None


def in_use(folder: Path) -> bool:
    """Whether any process uses the model in `folder`. Raises OSError."""
    if os.name == "nt" or not (folder / LOCK).exists():
        return False
    descriptor = try_lock(folder / LOCK)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False
