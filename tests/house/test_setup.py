"""The Makefile and its preflight, as a newcomer meets them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows is set up by hand (README)")


def preflight(
    repository: Path, python: str, *arguments: str, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("CC", "CXX")}
    environment["PATH"] = path or environment["PATH"]
    return subprocess.run(
        ["/bin/sh", str(repository / ".ci" / "preflight"), python, *arguments],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert all(system in done.stderr for system in ("Debian", "Fedora", "macOS"))
    return done.stderr


def test_preflight_is_content_with_the_machine_that_runs_the_tests(repository: Path) -> None:
    done = preflight(repository, sys.executable, "0")
    assert done.returncode == 0, done.stderr


def test_preflight_names_a_missing_python(repository: Path) -> None:
    assert "Python 3.11 or newer is missing" in refusal(preflight(repository, "no-such-python"))


def test_preflight_names_a_missing_venv_module(repository: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(  # as Debian ships it: everything there but ensurepip
        f"#!/bin/sh\nexec '{sys.executable}' -c "
        '\'import sys; sys.modules["ensurepip"] = None; exec(sys.argv[2])\' "$@"\n'
    )
    python.chmod(0o755)
    assert "the venv module" in refusal(preflight(repository, str(python)))


@pytest.mark.parametrize(("present", "missing"), [("", "a C compiler"), ("cc", "a C++ compiler")])
def test_preflight_names_a_missing_compiler(
    repository: Path, tmp_path: Path, present: str, missing: str
) -> None:
    for tool in ("df", "awk", *present.split()):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    done = preflight(repository, sys.executable, path=str(tmp_path))
    assert missing in refusal(done)


def test_preflight_names_a_full_disk(repository: Path) -> None:
    done = preflight(repository, sys.executable, "9999999")
    assert done.returncode == 1
    assert "not enough disk space" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    """A clone as far as make is concerned, in a path with a space in it."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints-dev.txt"):
        shutil.copy(repository / name, folder)
    shutil.copytree(repository / ".ci", folder / ".ci")
    return folder


def steps(checkout: Path, target: str) -> str:
    """What `make target` would run."""
    done = subprocess.run(
        ["make", "-n", target], cwd=checkout, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


@pytest.mark.parametrize("target", ["chat", "test", "lint", "bench"])
def test_a_fresh_clone_is_checked_and_set_up_first(checkout: Path, target: str) -> None:
    plan = steps(checkout, target)
    assert plan.index(".ci/preflight") < plan.index("-m venv") < plan.index("pip install")
    assert plan.count("pip install") == 1


@pytest.mark.parametrize("target", ["chat", "test", "lint", "bench"])
def test_nothing_is_set_up_twice(checkout: Path, target: str) -> None:
    (checkout / ".venv").mkdir()
    for stamp in (".made", ".starter", ".dev"):
        (checkout / ".venv" / stamp).touch()
    assert "pip install" not in steps(checkout, target)
    later = (checkout / ".venv" / ".dev").stat().st_mtime + 5
    os.utime(checkout / "pyproject.toml", (later, later))
    plan = steps(checkout, target)
    assert plan.count("pip install") == 1
    assert "preflight" not in plan


def link(repository: Path, program: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(repository / ".ci" / "link"), str(program), str(folder)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_install_links_the_command_and_can_be_repeated(repository: Path, tmp_path: Path) -> None:
    program, folder = tmp_path / "a clone" / "openchat-local", tmp_path / "new" / "bin"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    for _ in range(2):
        done = link(repository, program, folder)
        assert done.returncode == 0, done.stderr
        assert (folder / "openchat-local").resolve() == program
        assert "is not in your PATH" in done.stderr


@pytest.mark.parametrize("what", ["file", "folder", "link of another clone", "dangling link"])
def test_install_replaces_nothing_of_anybody_else(
    what: str, repository: Path, tmp_path: Path
) -> None:
    program, taken = tmp_path / "openchat-local", tmp_path / "bin" / "openchat-local"
    program.write_text("#!/bin/sh\n")
    taken.parent.mkdir()
    match what:
        case "file":
            taken.write_text("mine")
        case "folder":
            taken.mkdir()
        case _:
            taken.symlink_to(sys.executable if "clone" in what else tmp_path / "nowhere")
    before = taken.lstat().st_ino
    done = link(repository, program, taken.parent)
    assert done.returncode == 1
    assert "is not this clone's" in done.stderr
    assert taken.lstat().st_ino == before


def test_install_sets_up_what_chat_does(checkout: Path) -> None:
    plan = steps(checkout, "install")
    assert plan.index("pip install") < plan.index(".ci/link")
    assert "/a clone/.venv/bin/openchat-local" in plan


def test_both_halves_of_the_tests_run_and_all_failures_are_named_at_the_end(
    repository: Path, checkout: Path
) -> None:
    tests = checkout / "tests"
    (tests / "app" / "tui").mkdir(parents=True)
    shutil.copy(repository / "tests" / "conftest.py", tests)
    (tests / "test_one.py").write_text("def test_wrong(): assert 0\ndef test_right(): pass\n")
    (tests / "app" / "tui" / "test_two.py").write_text("from nowhere import something\n")
    done = subprocess.run(
        ["/bin/sh", ".ci/test", sys.executable],
        cwd=checkout, env=os.environ | {"JOBS": "0"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    named = done.stdout.partition("\nFailed:\n")[2].split()
    assert named == ["tests/test_one.py::test_wrong", "tests/app/tui/test_two.py"]
