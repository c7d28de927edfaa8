"""CONTRIBUTING.md speaks of files and names that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
STEPS = re.findall(r"^\d+\. `(\S+\.py)`: (.*)$", PAGE, re.MULTILINE)


def test_both_ways_through_the_house_are_there() -> None:
    assert len(STEPS) == 20


@pytest.mark.parametrize(("file", "about"), STEPS)
def test_a_step_names_a_file_and_what_is_in_it(repository: Path, file: str, about: str) -> None:
    folder = (repository / file).parent
    own, _, beside = about.partition(";")
    texts = [(own, (repository / file).read_text("utf-8"))]
    texts += [
        (beside, (folder / name).read_text("utf-8")) for name in re.findall(r"`(\w+\.py)`", beside)
    ]
    for said, text in texts:
        for name in re.findall(r"`([A-Za-z_]+)`", said):
            assert re.search(rf"\b{name}\b", text), name


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"\b(?:app|finetune|models|tests|docs)/[\w/.]+\w", PAGE)))
)
def test_a_path_exists(repository: Path, path: str) -> None:
    assert (repository / path).exists()
