"""The built wheel, installed outside the checkout: what a user gets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOMS = ("app", "finetune", "models")


@dataclass(frozen=True)
class Installation:
    """A virtual environment in which the wheel is installed, and nothing of the checkout."""

    bin: Path
    folder: Path

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        program = self.bin / command[0]
        return subprocess.run(
            [str(program), *command[1:]],
            cwd=self.folder,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=240,
        )


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # From a copy: a stale build/lib of the checkout would slip into the wheel.
    source = tmp_path_factory.mktemp("source") / "copy"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")
    shutil.copytree(repository, source, ignore=ignored)
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source],
        check=True,
        capture_output=True,
        timeout=240,
    )
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False)
    bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = bin / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True, timeout=120)
    # The dependencies are borrowed. A path that comes from a .pth file is searched for
    # modules but not for further .pth files, so the editable install stays behind.
    library = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    dependencies = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(library) / "dependencies.pth").write_text("\n".join(sorted(dependencies)))
    return Installation(bin, folder)


def test_the_wheel_has_one_top_level_package_and_everything_in_it(
    wheel: Path, repository: Path
) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"openchat_local"}
    expected = {
        f"openchat_local/{file.relative_to(repository).as_posix()}"
        for room in ROOMS
        for file in (repository / room).rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert expected <= names, f"missing: {sorted(expected - names)}"
    assert "openchat_local/__main__.py" in names
    assert not [name for name in names if "/tests/" in name or "/bench/" in name]


def test_every_package_folder_is_listed(repository: Path) -> None:
    # One that is not listed imports well in an editable install and is absent from the wheel.
    listed = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        ".".join(("openchat_local", *file.parent.relative_to(repository).parts))
        for room in ROOMS
        for file in (repository / room).rglob("__init__.py")
    }
    assert set(listed["packages"]) == folders | {"openchat_local"}
    with_modules = {file.parent for room in ROOMS for file in (repository / room).rglob("*.py")}
    assert [str(folder) for folder in with_modules if not (folder / "__init__.py").is_file()] == []


def test_the_package_comes_from_the_wheel(installation: Installation) -> None:
    done = installation.run("python", "-c", "import openchat_local; print(openchat_local.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(installation.folder), done.stderr


def test_version_and_help(installation: Installation) -> None:
    from openchat_local import __version__

    for command in (("openchat-local",), ("python", "-m", "openchat_local")):
        assert installation.run(*command, "--version").stdout == f"openchat-local {__version__}\n"
    assert "history" in installation.run("openchat-local", "--help").stdout


def test_render_on_the_starter(installation: Installation) -> None:
    done = installation.run("openchat-local", "render", stdin='[{"role": "user", "content": "Hi"}]')
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert len(line["ids"]) == len(line["pieces"]) > 0
    assert "".join(line["pieces"]).endswith("<|im_start|>assistant\n")


def test_ask_the_starter(installation: Installation, home: Path) -> None:
    done = installation.run("openchat-local", "ask", "Say hello.", "--max-tokens", "8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert home.is_dir()
    listed = installation.run("openchat-local", "history", "list")
    assert listed.returncode == 0, listed.stderr
    assert "Say hello." in listed.stdout
