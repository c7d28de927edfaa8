"""What `.gitignore` files leave out: gitignore(5)'s rules, read without git.

Git itself would do what a repository's own configuration says, which may be to run a program.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LONGEST = 500
"""Characters of a pattern, and patterns of a file: what has more is no such file."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A line of a `.gitignore`; `pattern` is held against a path below the file's own folder."""

    pattern: re.Pattern[str]
    excludes: bool
    folders_alone: bool


def rules(text: str) -> tuple[Rule, ...]:
    """The rules of a `.gitignore`, in its order."""
    lines = text.splitlines()[:LONGEST]
    return tuple(rule for line in lines if len(line) <= LONGEST and (rule := _rule(line)))


def is_ignored(
    path: str, is_folder: bool, of_folders: Iterable[tuple[str, Sequence[Rule]]]
) -> bool:
    """Whether a path is left out by the rules of the folders above it, each given with what it
    adds to the path ("" or "src/"), from above: the last rule that fits decides."""
    ignored = False
    for prefix, its_rules in of_folders:
        below = path.removeprefix(prefix)
        for rule in its_rules:
            if (is_folder or not rule.folders_alone) and rule.pattern.fullmatch(below):
                ignored = rule.excludes
    return ignored


def _rule(line: str) -> Rule | None:
    line = re.sub(r"(?<!\\)[ \t]+$", "", line)
    if not line or line.startswith("#"):
        return None
    excludes = not line.startswith("!")
    line = line.removeprefix("!")
    folders_alone = line.endswith("/")
    line = line.rstrip("/")
    anchored = "/" in line
    source = _translated(line.lstrip("/"))
    try:
        pattern = re.compile(source if anchored else f"(?:.*/)?{source}", re.DOTALL)
    except re.error:
        return None
    return Rule(pattern, excludes, folders_alone)


# Stars are possessive or may match a name alone, so that no pattern takes long.
_PARTS = re.compile(r"\*\*/|/\*\*$|\*+|\?|\[!?\]?[^\]]*\]|\\.|.", re.DOTALL)


def _translated(glob: str) -> str:
    out = ""
    for part in _PARTS.findall(glob):
        if part == "**/":
            out += "(?:.*/)?"
        elif part == "/**":
            out += "/.*"
        elif part.startswith("*"):
            out += "[^/]*"
        elif part == "?":
            out += "[^/]"
        elif len(part) > 1 and part.startswith("["):
            inside = part[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            out += f"[^/{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
        else:
            out += re.escape(part.removeprefix("\\") if len(part) > 1 else part)
    return out
