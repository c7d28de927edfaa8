"""What a file is: what its first bytes say comes before what its name says."""

from __future__ import annotations

from typing import BinaryIO, Literal

from openchat_local.app.documents.document import Unreadable

Kind = Literal["pdf", "packed", "html"]
"""How a document is read. "packed" is a zip archive: Office, EPUB, or no document at all."""

FORMS = {
    ".pdf": "PDF",
    ".docx": "Word document",
    ".docm": "Word document",
    ".odt": "text document",
    ".pptx": "presentation",
    ".pptm": "presentation",
    ".odp": "presentation",
    ".xlsx": "workbook",
    ".xlsm": "workbook",
    ".ods": "workbook",
    ".epub": "EPUB",
    ".html": "web page",
    ".htm": "web page",
    ".xhtml": "web page",
}
"""What a file of this ending is said to be."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_SEARCHED = 64 << 20  # bytes
_PICTURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def kind_of(file: BinaryIO, suffix: str) -> Kind | None:
    """How an open file is to be read; None for what is no document, and then text if anything.

    Raises Unreadable for Office files that are old or encrypted.
    """
    file.seek(0)
    head = file.read(4096)
    suffix = suffix.lower()
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n\0")
    if start.startswith(b"%PDF-") or (suffix == ".pdf" and b"%PDF-" in head[:1024]):
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "packed"
    if head.startswith(_OLE):
        if "EncryptedPackage".encode("utf-16-le") in head + file.read(_OLE_SEARCHED):
            raise Unreadable(
                "is protected by a password", "save a copy without one, and attach that"
            )
        raise Unreadable("is an Office file of the old kind", "save it as .docx, .xlsx or .pptx")
    return "html" if FORMS.get(suffix) == "web page" else None


def is_picture(head: bytes) -> bool:
    """Whether a file that begins so is a picture."""
    return head.startswith(_PICTURES) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
