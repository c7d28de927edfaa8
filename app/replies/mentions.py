"""Which words of a prompt are files: `@path`, `@folder/`, `@report.pdf:3-7`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openchat_local.app.documents.kinds import FORMS

# At the beginning or after a space, so that no address of a mail is one.
_MENTION = re.compile(r"""(?<!\S)@(?:"([^"\n]+)"(?::([\w,-]+))?|([^\s"@][^\s"]*))""")
_TRAILING = ".,;:!?)]}"
_PART = re.compile(r"(.+):(source|best|[\d,-]*\d[\d,-]*)")
NONE_OF_THESE = "none of these is there"
SOURCE = "source"
"""What stands in the place of pages for a web page as it is written."""
BEST = "best"
"""And for what of a file suits the words of the prompt, as for a folder."""


@dataclass(frozen=True, slots=True)
class Mention:
    """An `@path` in a prompt. `name` is what was written, `part` which pages or lines of it
    were asked for, "" for all."""

    name: str
    path: Path
    part: str = ""

    @property
    def exists(self) -> bool:
        return os.path.lexists(self.path)

    @property
    def is_folder(self) -> bool:
        """Whether the best of a folder is wanted: it ends with a slash, and is more than that."""
        return self.name.endswith(("/", os.sep)) and bool(self.name.strip("/" + os.sep))

    @property
    def is_searched(self) -> bool:
        """Whether what suits the prompt is wanted, and not all there is."""
        return self.is_folder or self.part == BEST

    @property
    def is_document(self) -> bool:
        """Whether it is a folder, or has the ending of a document: no mere word has that."""
        return self.is_searched or self.path.suffix.lower() in FORMS

    @property
    def looks_like_a_file(self) -> bool:
        """Whether whoever wrote it probably meant a file, there or not."""
        return "/" in self.name or os.sep in self.name or bool(Path(self.name).suffix)


def mentions(text: str) -> Iterator[Mention]:
    """Every `@path` and `@"path with spaces"` in a prompt, each once."""
    seen = set()
    for match in _MENTION.finditer(text):
        if match[1] is not None:
            mention = Mention(f"{match[1]}:{match[2]}", path_of(match[1]), match[2])
            if match[2] is None:
                mention = Mention(match[1], path_of(match[1]))
        else:
            mention = _unquoted(match[3])
        if mention.name and mention.name not in seen:
            seen.add(mention.name)
            yield mention


def named(path: str) -> Mention:
    """The file of a path that stands by itself, which nothing follows: it may have spaces, and
    `:3-7` at its end."""
    part = _PART.fullmatch(path)
    if part and not os.path.lexists(path_of(path)) and os.path.lexists(path_of(part[1])):
        return Mention(path, path_of(part[1]), part[2])
    return Mention(path, path_of(path))


def _unquoted(written: str) -> Mention:
    """A mention as it stands among words, whose punctuation is not its own."""
    name = re.sub(rf"(?<=/)[{re.escape(_TRAILING)}]$", "", written)  # "in @notes/."
    if os.path.lexists(path_of(name)):
        return Mention(name, path_of(name))
    return named(name.rstrip(_TRAILING))  # "see @notes.txt."


def without_mentions(text: str) -> str:
    """The words of a prompt that are no `@path`."""
    return _MENTION.sub(" ", text)


def path_of(name: str) -> Path:
    """The path that a name means; `~` is home."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # "~nobody"
        return Path(name)


def numbers(part: str, total: int) -> list[int]:
    """The pages or lines that "3", "3-7", "-4", "8-" and "1,3-5" mean of `total`, each once, in
    order. Raises ValueError where it means none that is there."""
    chosen: set[int] = set()
    for piece in filter(None, part.split(",")):
        first, dash, last = piece.partition("-")
        if not (first or last) or not (first + last).isdecimal() or len(piece) > 20:
            raise ValueError(NONE_OF_THESE)
        low = int(first or 1)
        high = int(last or total) if dash else low
        chosen.update(range(max(low, 1), min(high, total) + 1))
    if not chosen:
        raise ValueError(NONE_OF_THESE)
    return sorted(chosen)


def in_ranges(chosen: list[int]) -> str:
    """ "3-7", "1, 4-5"."""
    ranges: list[list[int]] = []
    for number in chosen:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in ranges)
