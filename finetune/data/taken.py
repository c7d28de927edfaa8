"""What a file was taken for, in a sentence a format: the first thing that a person is told."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from openchat_local.finetune.data.lines import Container
from openchat_local.finetune.data.reading import Reading
from openchat_local.finetune.data.shapes.preferences import SIDES
from openchat_local.finetune.data.worth import LIKED


def taken_for(
    path: Path,
    container: Container,
    reading: Reading,
    formats: Mapping[str, int],
    rows: int,
    classes: set[str],
) -> Iterator[str]:
    """Sentences on the file at `path`: `formats` counts its conversations by what they were taken
    for, `rows` are those that they stand in, `classes` the names of theirs."""
    kind = f" ({container.name})" if container.name else ""
    what = _meaning(reading, classes)
    for number, (format, count) in enumerate(formats.items()):
        many = f"{count:,} conversation{'s' * (count != 1)}"
        of = ""
        if len(formats) == 1 and rows != count:
            of = f" of {rows:,} row{'s' * (rows != 1)}"
        said = f"; {what}" if what and not number else ""
        yield f"{container.title or path.name}{kind}: {many}{of}, {format}{said}."
    if container.unread:
        yield f"Columns of {path.name} that are not read: {', '.join(container.unread)}."


def split_notes(others: Sequence[Path]) -> Iterator[str]:
    """That there are other splits to validate on, where none is named."""
    if others:
        names = ", ".join(other.name for other in others)
        first = shlex.quote(str(others[0]))
        yield f"There are other splits, {names}: --val {first} would validate on one."


def _meaning(reading: Reading, classes: set[str]) -> str:
    """What the rows are told apart by, "" where they say it themselves."""
    said = []
    if reading.classes is not None:
        said.append(f"classes by {reading.class_field}: {reading.classes}")
    elif reading.class_field is not None:
        said.append(f"classes by {reading.class_field}")
    if reading.class_field is None:
        pairs = (SIDES, (LIKED[True], LIKED[False]))
        said += [f"{' and '.join(pair)} are classes" for pair in pairs if classes & {*pair}]
    if reading.reward_field is not None:
        said.append(f"rewards by {reading.reward_field}: {_rewards(reading)}")
    return "; ".join(said)


def _rewards(reading: Reading) -> str:
    if reading.span is None:
        return reading.rewards.formula
    ends = (f"{end:g} is worth {reading.reward(end):.3g}" for end in dict.fromkeys(reading.span))
    return f"{reading.rewards.formula}; {', '.join(ends)}"
