"""Text files in a prompt: `@path` becomes the file's text, below what was written.

An `@word` that is no such file is a word: decorators, aliases and names begin with @ as well.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openchat_local.app.printable import printable
from openchat_local.models.errors import OpenChatError

LARGEST = 1_000_000  # bytes: some 250,000 tokens, more than any model here reads

# At the beginning or after a space, so that no address of a mail is one.
_MENTION = re.compile(r"""(?<!\S)@(?:"([^"\n]+)"|([^\s"@][^\s"]*))""")
_TRAILING = ".,;:!?)]}"
_BLOCKS = re.compile(r"\n\n(?:File [^\n]*:\n(`{3,})[^\n]*\n.*?\n\1(?:\n\n|\Z))+\Z", re.DOTALL)

_BLOCK = re.compile(r"\n\nFile ([^\n]*):\n(`{3,})[^\n]*\n(.*?)\n\2(?=\n\n|\Z)", re.DOTALL)


class AttachmentError(OpenChatError):
    """A file that cannot be attached: its mention stays what was written."""

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        shown = printable(name)
        super().__init__(f"@{shown} {reason}, so it stays a word of the prompt: {remedy}.")


@dataclass(frozen=True, slots=True)
class Mention:
    """An `@path` in a prompt. `name` is the path as it was written."""

    name: str
    path: Path

    @property
    def exists(self) -> bool:
        return os.path.lexists(self.path)

    @property
    def looks_like_a_file(self) -> bool:
        """Whether whoever wrote it probably meant a file, there or not."""
        return "/" in self.name or os.sep in self.name or bool(Path(self.name).suffix)


@dataclass(frozen=True, slots=True)
class Expanded:
    """A prompt with its files, and a sentence for each mention that stays a word of it."""

    text: str
    problems: tuple[str, ...] = ()


def mentions(text: str) -> Iterator[Mention]:
    """Every `@path` and `@"path with spaces"` in a prompt, each once."""
    seen = set()
    for match in _MENTION.finditer(text):
        name = match[1] or match[2]
        if match[1] is None and not os.path.lexists(_path(name)):
            name = name.rstrip(_TRAILING)  # "see @notes.txt."
        if name and name not in seen:
            seen.add(name)
            yield Mention(name, _path(name))


def read(mention: Mention) -> str:
    """The text of the file. Raises AttachmentError, one sentence that says what to do."""
    name = mention.name
    try:
        # Before it is opened: who opens a pipe waits for the one who writes into it.
        status = mention.path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AttachmentError(name, "is a folder", "attach the files in it")
        if not stat.S_ISREG(status.st_mode):
            raise AttachmentError(name, "is a device or a pipe", "attach a file")
        with mention.path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise unreadable(mention, error) from None
    if len(data) > LARGEST:
        raise AttachmentError(
            name,
            f"has {status.st_size:,} bytes, and an attachment can have {LARGEST:,}",
            "attach the part that matters",
        )
    return _decoded(data, name)


def unreadable(mention: Mention, error: OSError) -> AttachmentError:
    """What the system's refusal of a file means for its mention."""
    reason = f"cannot be read ({error.strerror})"
    return AttachmentError(mention.name, reason, "correct the path or the file's permissions")


def expanded(text: str) -> Expanded:
    """The prompt with the text of every file that it mentions below it."""
    parts, problems = [text], []
    for mention in mentions(text):
        if mention.exists:
            try:
                parts.append(block(mention, read(mention)))
            except AttachmentError as problem:
                problems.append(str(problem))
    return Expanded("\n\n".join(parts), tuple(problems))


def block(mention: Mention, content: str) -> str:
    """A file as the model reads it: its name, and its text between fences that are longer
    than any within."""
    longest = max((len(run) for run in re.findall(r"`{3,}", content)), default=2)
    fence = "`" * (longest + 1)
    language = re.sub(r"\W", "", mention.path.suffix[1:])[:12]
    name = printable(mention.name).replace("\n", " ")
    return f"File {name}:\n{fence}{language}\n{content.removesuffix(chr(10))}\n{fence}"


def without_blocks(text: str) -> str:
    """The prompt as it was written, before `expanded` put files below it."""
    return _BLOCKS.sub("", text)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file in a stored prompt: its name, and its text as it was when it was sent."""

    name: str
    text: str


def attachments(text: str) -> tuple[str, list[Attachment]]:
    """A stored prompt as it was written, and the files that `expanded` put below it."""
    if "\n\nFile " not in text:  # as nearly always
        return text, []
    written = without_blocks(text)
    found = _BLOCK.finditer(text, len(written))
    return written, [Attachment(each[1], each[3]) for each in found]


def _path(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # "~nobody"
        return Path(name)


def _decoded(data: bytes, name: str) -> str:
    if b"\0" in data:
        raise AttachmentError(name, "is a binary file", "attach text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AttachmentError(
            name, f"is not UTF-8 (byte {error.start})", "convert it to UTF-8 first"
        ) from None
    return text.replace("\r\n", "\n")
