"""Downloads that were begun: a part under its content's hash, and what it is to become.

.parts/SHA256.part    the bytes that came
.parts/SHA256.json    the model's name, and what to pull to go on
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from openchat_local.models.errors import ModelFileError
from openchat_local.models.system.atomic import replacing
from openchat_local.models.system.file_lock import try_lock

PARTS = ".parts"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """`done` of `bytes` of the model `reference` are here; pulling `pull` goes on. A model in
    several files has a part for each: `others` are those beside the first."""

    reference: str
    pull: str
    bytes: int
    done: int
    part: Path
    others: tuple[Path, ...] = ()

    def forget(self) -> None:
        """Delete what came. Raises ModelFileError while somebody is fetching the rest."""
        lock = self.part.with_suffix(".lock")
        try:
            descriptor = try_lock(lock)
            if descriptor is None:
                raise ModelFileError(
                    f"{self.reference} is being fetched by another openchat-local: stop that first."
                )
            for path in (self.part, *self.others, self.part.with_suffix(".json"), lock):
                path.unlink(missing_ok=True)
            os.close(descriptor)
        except OSError as error:
            raise ModelFileError(
                f"What came of {self.reference} cannot be removed ({error.strerror}): delete "
                f"{self.part} by hand."
            ) from error


def part_path(library: Path, sha256: str) -> Path:
    """Where the bytes of the content with this hash gather."""
    return library / PARTS / f"{sha256}.part"


def note(part: Path, reference: str, pull: str, size: int, others: Sequence[Path] = ()) -> None:
    """Write down what `part`, and `others` with it, is to become. Raises OSError."""
    noted = {"reference": reference, "pull": pull, "bytes": size}
    more = {"others": [other.stem for other in others]} if others else {}
    with replacing(part.with_suffix(".json")) as path:
        path.write_text(json.dumps(noted | more), "utf-8")


def unfinished(library: Path) -> list[Unfinished]:
    """What was begun and is not installed, in alphabetical order."""
    found = []
    for part in (library / PARTS).glob("*.part"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads(part.with_suffix(".json").read_text("utf-8"))
            reference, pull, size = noted["reference"], noted["pull"], noted["bytes"]
            if isinstance(reference, str) and isinstance(pull, str) and type(size) is int:
                hashes = [hashed for hashed in noted.get("others", ()) if _is_hash(hashed)]
                others = tuple(part_path(library, hashed) for hashed in hashes)
                done = sum(path.stat().st_size for path in (part, *others) if path.is_file())
                found.append(Unfinished(reference, pull, size, done, part, others))
    return sorted(found, key=lambda one: one.reference)


def _is_hash(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]{64}", text) is not None


def forget_note(part: Path) -> None:
    """The part has become a model."""
    with suppress(OSError):
        part.with_suffix(".json").unlink()
