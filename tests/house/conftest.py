from __future__ import annotations

import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROOMS = ("app", "finetune", "models")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of this checkout."""
    return REPOSITORY


@pytest.fixture
def package_copy(tmp_path: Path) -> Path:
    """A copy of the package under its import name, for a test to damage: its parent
    folder goes on the import path.
    """
    package = tmp_path / "tree" / "openchat_local"
    package.mkdir(parents=True)
    for file in REPOSITORY.glob("*.py"):
        shutil.copy(file, package)
    for room in ROOMS:
        shutil.copytree(
            REPOSITORY / room, package / room, ignore=shutil.ignore_patterns("__pycache__")
        )
    return package
