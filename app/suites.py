"""The suites of questions: which there are, and those that were fetched, by their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openchat_local.app.paths import data_home
from openchat_local.finetune.evaluation.suites.catalogue import SUITES

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.suites.library import SuiteLibrary

__all__ = ["SUITES", "library", "suite_files", "suites_dir"]


def suites_dir() -> Path:
    """The folder of fetched suites, one folder each."""
    return data_home() / "suites"


def library() -> SuiteLibrary:
    """The suites in the data home."""
    from openchat_local.finetune.evaluation.suites.library import SuiteLibrary

    return SuiteLibrary(suites_dir())


def suite_files(name: str) -> list[Path]:
    """The sets of the suite `name`, JSONL files sorted by name.

    Raises SuiteError where there is no such suite, where it was not fetched, and where a file of
    it was changed since.
    """
    return library().files(name)
