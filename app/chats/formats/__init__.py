"""Chats as files: what is written for others, and what is read from them."""

from openchat_local.app.chats.formats.export import (
    BRANCHES,
    EXPORT_FORMATS,
    Branches,
    ExportFormat,
    export_chat,
)
from openchat_local.app.chats.formats.files import write_new_file
from openchat_local.app.chats.formats.importing import Imported, Read, import_file, read_chats

__all__ = [
    "BRANCHES",
    "EXPORT_FORMATS",
    "Branches",
    "ExportFormat",
    "Imported",
    "Read",
    "export_chat",
    "import_file",
    "read_chats",
    "write_new_file",
]
