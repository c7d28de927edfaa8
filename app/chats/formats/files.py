"""Exported chats on disk."""

from __future__ import annotations

import os
from pathlib import Path

from openchat_local.app.chats.errors import ChatStoreError, translated


def write_new_file(path: Path, text: str) -> None:
    """Write to a file that is not there yet, and is its owner's alone from the first byte on
    (Windows inherits the folder's list). Raises ChatStoreError."""
    try:
        with translated(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
                    file.write(text)
            except BaseException:
                path.unlink()  # the half of it; the file was made here
                raise
    except ChatStoreError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise ChatStoreError(f"{path} is there already; choose another name.") from error
        raise
