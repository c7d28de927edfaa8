"""Files that are learned from beside the chats: looked at, and written among the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.learning.feedback import Lesson
    from openchat_local.app.learning.rules import FeedbackRules, Rule
    from openchat_local.finetune.data.reading import Reading
    from openchat_local.finetune.data.survey import ClassCount


class ExtraFileError(OpenChatError):
    """A file cannot be learned from beside chats."""


@dataclass(frozen=True, slots=True)
class ExtraFile:
    """A file and its conversations, as many of each class; those without one are of the best."""

    path: Path
    classes: Mapping[str, int]

    @property
    def conversations(self) -> int:
        return sum(self.classes.values())


def look_at_file(path: Path, rules: FeedbackRules) -> ExtraFile:
    """What a file would add. Reads it once.

    Raises DataError where it cannot be read, and ExtraFileError with every problem of its
    lines, or for a class that has neither a rule here nor a reward of its own.
    """
    from openchat_local.finetune.data.example import UNLABELLED
    from openchat_local.finetune.data.reading import PLAIN
    from openchat_local.finetune.data.survey import survey

    found = survey(path, PLAIN, lambda _: None)
    if found.faults:
        listed = "\n  ".join(found.faults.listing())
        raise ExtraFileError(f"{path} cannot be learned from; mend this first:\n  {listed}")
    if not found.conversations:
        raise ExtraFileError(f"{path} holds no conversation: name another file.")
    named = _by_name(rules)
    classes: dict[str, int] = {}
    for name, count in found.classes.items():
        if name != UNLABELLED and name not in named and not _is_known(name, count):
            raise ExtraFileError(
                f"{path} has the class {name!r}, which is worth nothing here: call it "
                f"{' or '.join(map(repr, named))} in the file, or write a reward and a condition "
                "into each of its lines."
            )
        own = str(best_rule(rules).class_name) if name == UNLABELLED else name
        classes[own] = classes.get(own, 0) + count.conversations
    return ExtraFile(path, classes)


def write_rows(
    path: Path, lessons: Sequence[Lesson], mix: Sequence[Path], rules: FeedbackRules
) -> None:
    """Write the new file `path`, its owner's alone: the rows of chats, and then those of the
    files, or nothing. Raises RowsFileError, and DataError where a file cannot be read any more."""
    from openchat_local.app.learning.rows_file import write_lessons

    write_lessons(path, lessons, extra_rows(mix, rules))


def extra_rows(
    mix: Sequence[Path],
    rules: FeedbackRules,
    reading: Reading | None = None,
    *,
    skip_bad: bool = False,
) -> Iterator[dict[str, Any]]:
    """The conversations of the files: those of a class that has a rule are under its condition
    and worth what it says, and those without a class are of the best. `reading` is how the files
    are to be read.

    Raises DataError: with every fault, unless `skip_bad` leaves out the lines that have one.
    """
    from openchat_local.app.learning.mixing import mixed_rows
    from openchat_local.finetune.data.reading import PLAIN

    named = _by_name(rules)
    for row in mixed_rows(mix, reading or PLAIN, skip_bad=skip_bad):
        rule = named.get(row["class"]) if "class" in row else best_rule(rules)
        if rule is None:
            yield row
            continue
        own: dict[str, Any] = {"class": rule.class_name}
        if rule.condition is not None:
            own["condition"] = rule.condition
        if row.get("reward") is None and row.get("weight") is None:
            own["reward"] = rule.reward
        yield row | own


def best_rule(rules: FeedbackRules) -> Rule:
    """That of the class that is worth most. Raises ExtraFileError where nothing is learned."""
    if not rules.classes:
        raise ExtraFileError("By these rules no reply is learned from: give one kind a class.")
    return rules.classes[0]


def _by_name(rules: FeedbackRules) -> dict[str, Rule]:
    return {str(rule.class_name): rule for rule in rules.classes}


def _is_known(name: str, count: ClassCount) -> bool:
    """Whether `finetune` knows what such rows are worth, and under which condition."""
    from openchat_local.finetune.data.policy import EXPERTS, SUBOPTIMAL

    called = name.casefold()
    if any(fnmatchcase(called, pattern) for pattern in (*EXPERTS, *SUBOPTIMAL)):
        return True
    return bool(count.conditions) and not count.unweighted
