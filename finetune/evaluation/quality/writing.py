"""The same conversations with a reward each, as a new file for `finetune`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openchat_local.finetune.data.examples import read_rows
from openchat_local.finetune.data.reading import PLAIN, Reading
from openchat_local.finetune.data.shapes.trees import TREES
from openchat_local.finetune.evaluation.quality.answers import Place
from openchat_local.finetune.evaluation.rows import file_digest
from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.atomic import replacing


class RewardsUnwritten(OpenChatError):
    """The conversations could not be written with their rewards."""


def check_target(target: Path, source: Path, *, replace: bool) -> None:
    """Raise RewardsUnwritten where `target` cannot be: before hours of grading, not after."""
    if str(target) == "-":
        raise RewardsUnwritten("--write needs a file's name: standard output is the report's.")
    if target.is_dir():
        raise RewardsUnwritten(f"{target} is a folder: give --write the name of a file.")
    if target.exists() and source.exists() and target.samefile(source):
        raise RewardsUnwritten(
            f"{target} is the file that is graded: give --write another name, and keep both."
        )
    if target.exists() and not replace:
        raise RewardsUnwritten(
            f"{target} is there already: give --write another name, or add --replace."
        )
    if not target.parent.is_dir():
        raise RewardsUnwritten(f"The folder of {target} is not there: make it first.")


def write_rewarded(
    source: Path,
    digest: str,
    target: Path,
    places: frozenset[Place],
    rewards: Mapping[Place, float],
    reading: Reading = PLAIN,
    *,
    replace: bool,
) -> int:
    """Write the conversations in those `places` of `source`, read so, to `target`, a JSON object
    a line, those that `rewards` names with theirs; how many lines are written.

    A reward takes the place of an earlier one, and of a `weight` of the conversation, which
    means the same; every other field stays as it is. Of a row that holds several conversations,
    each becomes a line of its own, as OpenAI messages with a class. `digest` is that of the file
    that was graded. Raises RewardsUnwritten, and then nothing has changed.
    """
    written = 0
    try:
        with replacing(target, new=not replace) as part, part.open("wb") as out:
            for row in read_rows(source, reading, lambda _: None):
                if isinstance(row, list):
                    continue
                line, examples = row
                whole = len(examples) == 1 and examples[0].format != TREES
                for example in examples:
                    if example.place in places:
                        value = line.value if whole else example.as_row()
                        out.write(_encoded(_rewarded(value, rewards.get(example.place))))
                        written += 1
            if file_digest(source) != digest:
                raise RewardsUnwritten(
                    f"{source} changed while it was graded: run the command again; what was "
                    "graded before is kept."
                )
    except FileExistsError:
        raise RewardsUnwritten(
            f"{target} came to be while {source} was graded: add --replace, or give --write "
            "another name."
        ) from None
    except OSError as error:
        raise RewardsUnwritten(
            f"{target} cannot be written ({error.strerror or error}): give --write another name; "
            "what was graded is kept."
        ) from error
    return written


def _rewarded(value: dict[str, Any], reward: float | None) -> dict[str, Any]:
    if reward is None:
        return value
    return {name: each for name, each in value.items() if name != "weight"} | {"reward": reward}


def _encoded(value: dict[str, Any]) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a character, which JSON can spell and UTF-8 cannot
        return json.dumps(value).encode() + b"\n"
