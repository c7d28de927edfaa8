"""What `.gitignore` files leave out: gitignore(5)'s rules, read without git.

Git itself would do what a repository's own configuration says, which may be to run a program.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LONGEST = 500
"""Characters of a pattern, and patterns of a file: what has more is no such file."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A line of a `.gitignore`; `names` are held against those of a path below the file's own
    folder, one each, and None ("**") stands for any number of them."""

    names: tuple[re.Pattern[str] | None, ...]
    excludes: bool
    folders_alone: bool

    def fits(self, path: Sequence[str]) -> bool:
        """Whether the rule means the path of these names."""
        places = {0}  # how many of the names are matched by now
        for number, name in enumerate(self.names, 1):
            if name is None:
                least = min(places, default=len(path)) + (number == len(self.names))
                places = set(range(least, len(path) + 1))
            else:
                places = {at + 1 for at in places if at < len(path) and name.match(path[at])}
        return len(path) in places


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
        below = path.removeprefix(prefix).split("/")
        for rule in its_rules:
            if (is_folder or not rule.folders_alone) and rule.fits(below):
                ignored = rule.excludes
    return ignored


def _rule(line: str) -> Rule | None:
    line = re.sub(r"(?<!\\)[ \t]+$", "", line)
    if not line or line.startswith("#"):
        return None
    excludes = not line.startswith("!")
    line = line.removeprefix("!")
    folders_alone = line.endswith("/")
    globs = line.strip("/").split("/")
    if "/" not in line.rstrip("/"):  # a name alone is meant anywhere
        globs = ["**", *globs]
    names = tuple(None if glob == "**" else _name(glob) for glob in globs)
    return Rule(names, excludes, folders_alone)


def _name(glob: str) -> re.Pattern[str]:
    escaped = re.sub(
        r"\\(.)", lambda found: f"[{found[1]}]" if found[1] in "*?[" else found[1], glob
    )
    # The standard library's pattern takes no longer, however many stars there are.
    return re.compile(fnmatch.translate(escaped))
