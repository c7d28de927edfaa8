"""Files in a prompt as the model reads them, and as they are stored: below what was written.

The text of a file stays with the message as it was when it was sent, whatever becomes of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from openchat_local.app.printable import printable

_BLOCKS = re.compile(r"\n\n(?:File [^\n]*:\n(`{3,})[^\n]*\n.*?\n\1(?:\n\n|\Z))+\Z", re.DOTALL)
_BLOCK = re.compile(r"\n\nFile ([^\n]*):\n(`{3,})([^\n]*)\n(.*?)\n\2(?=\n\n|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file in a prompt: its name, perhaps with what of it this is in brackets, and its text as
    it was when it was sent. `language` is what kind of text, for the fence around it."""

    name: str
    text: str
    language: str = ""


def block(attachment: Attachment) -> str:
    """A file as the model reads it: its name, and its text between fences that are longer
    than any within."""
    longest = max((len(run) for run in re.findall(r"`{3,}", attachment.text)), default=2)
    fence = "`" * (longest + 1)
    language = re.sub(r"\W", "", attachment.language)[:12]
    name = printable(attachment.name).replace("\n", " ")
    return f"File {name}:\n{fence}{language}\n{attachment.text.removesuffix(chr(10))}\n{fence}"


def without_blocks(text: str) -> str:
    """The prompt as it was written, before files were put below it."""
    return _BLOCKS.sub("", text)


def attachments(text: str) -> tuple[str, list[Attachment]]:
    """A stored prompt as it was written, and the files that were put below it."""
    if "\n\nFile " not in text:  # as nearly always
        return text, []
    written = without_blocks(text)
    found = _BLOCK.finditer(text, len(written))
    return written, [Attachment(each[1], each[4], each[3]) for each in found]
