"""`bundle`: made here, installed where there is no network, and answering there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from openchat_local.app.bundle.closure import pins
from openchat_local.app.bundle.contents import choose_contents
from openchat_local.app.bundle.errors import BundleError
from openchat_local.app.bundle.making import copied_models
from openchat_local.app.bundle.repack import repacked
from openchat_local.app.bundle.target import Target
from openchat_local.models.gguf import read_gguf
from support.adapters import write_random_adapter
from support.network import isolated_command
from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import run_program


@pytest.fixture(scope="module")
def bundle(starter_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the starter as a file and an adapter for it, and llama.cpp as it is here."""
    folder = tmp_path_factory.mktemp("bundle")
    home = folder / "home"
    write_random_adapter(home / "adapters" / "mine" / "adapter.gguf", starter_path)
    model = folder / "small model.Q4_1.gguf"
    model.symlink_to(starter_path)
    out = folder / "a bundle"
    done = run_program(
        "bundle", out, "--native", "--model", model, "--adapter", "mine",
        OPENCHAT_LOCAL_HOME=str(home), OPENCHAT_LOCAL_OFFLINE="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "is for" in done.stdout
    assert [path.name for path in folder.glob(".*")] == []
    return out


def install(bundle: Path, home: Path, *, prefix: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the script as somebody who has nothing but Python."""
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHON": sys.executable}
    return subprocess.run(
        [*prefix, str(bundle / "install"), "the program"],
        cwd=home, env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="install is for POSIX, install.ps1 for Windows")
def test_it_installs_and_answers_without_a_network(bundle: Path, tmp_path: Path) -> None:
    prefix = isolated_command()
    done = install(bundle, tmp_path, prefix=prefix)
    assert done.returncode == 0, done.stderr
    program = tmp_path / "the program" / "bin" / "openchat-local"
    assert done.stdout.strip().endswith(f"Done. Start it with: {program}")

    def run(*arguments: str) -> str:
        environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        command = [*prefix, str(program), *arguments]
        answer = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    assert run("ask", "Name a colour.", "--max-tokens", "4", "--adapter", "mine").strip()
    assert 'model = "small-model:Q4_1"' in run("config", "show")


def test_what_is_damaged_on_the_way_is_not_installed(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy, copy_function=os.link)
    (copy / "adapters" / "mine.gguf").unlink()
    (copy / "adapters" / "mine.gguf").write_bytes(b"GGUF and no more")
    done = install(copy, tmp_path, prefix=[])
    assert done.returncode == 1
    assert "a file is damaged: copy the bundle again" in done.stderr
    assert not (tmp_path / "the program").exists()


def test_the_readme_says_what_is_in_it_and_for_whom(bundle: Path) -> None:
    text = (bundle / "README.txt").read_text()
    assert "same kind only" in text
    assert "small-model.Q4_1" in text
    assert "--adapter mine" in text
    assert "@" not in text + (bundle / "install").read_text().replace('"$@"', "")
    listed = {line.split("  ")[1] for line in (bundle / "SHA256SUMS").read_text().splitlines()}
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*.[wg]*")}
    assert listed == files


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--model", "no-such-model"), 1, "no-such-model"),
        (("--adapter", "no-such-adapter"), 1, "no-such-adapter"),
        (("--platform", "windows-x86_64"), 1, "build it on such a machine"),
        (("--wheels", "."), 1, "There is no wheel of llama-cpp-python for"),
        (("--platform", "windows-x86_64", "--native"), 2, "--native is for a machine like this"),
        (("--platform", "amiga"), 2, "'amiga' is not one of"),
        (("--python", "2.7"), 2, "'2.7' is not a version"),
        ((), 1, "OPENCHAT_LOCAL_OFFLINE"),  # the source of llama.cpp cannot be fetched
    ],
)
def test_what_cannot_be_made_is_told_and_leaves_nothing(
    tmp_path: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    out = tmp_path / "out"
    done = run_program("bundle", out, *arguments, OPENCHAT_LOCAL_OFFLINE="1")
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("*out*")) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    done = run_program("bundle", tmp_path, "--native")
    assert done.returncode == 1
    assert "is there already" in done.stderr


def test_each_kind_of_machine_needs_its_own_packages(bundle: Path) -> None:
    (ours,) = bundle.glob("wheels/openchat_local-*.whl")

    def names(platform: str) -> set[str]:
        found = pins(ours, (), Target(platform, "3.12").markers())
        return {pin.partition("==")[0] for pin in found}

    assert {"mlx", "mlx-metal", "textual", "llama-cpp-python"} <= names("macos-arm64")
    assert "colorama" in names("windows-x86_64")
    assert not {"mlx", "colorama"} & names("linux-x86_64")


@pytest.fixture
def installed(tmp_path: Path) -> Distribution:
    """A distribution of two files, with a script and bytecode that pip has added."""
    (tmp_path / "green").mkdir()
    (tmp_path / "green" / "__init__.py").write_text("COLOUR = 'green'\n")
    info = tmp_path / "green-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: green\nVersion: 1.0\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nTag: py2-none-any\nTag: py3-none-any\n")
    (info / "RECORD").write_text(
        "green/__init__.py,sha256=Zf0TxOG1r_6bSWViKR_KZNoqfS1BMDaEGF5Oftkuamw,17\n"
        "green/__pycache__/__init__.cpython-311.pyc,,\n"
        "../../bin/green,sha256=abc,3\n"
        "green-1.0.dist-info/METADATA,,\n"
        "green-1.0.dist-info/WHEEL,,\n"
        "green-1.0.dist-info/INSTALLER,,\n"
        "green-1.0.dist-info/RECORD,,\n"
    )
    return Distribution.at(info)


def test_an_installed_package_becomes_its_wheel_again(
    installed: Distribution, tmp_path: Path
) -> None:
    wheel = repacked(installed, tmp_path)
    assert wheel.name == "green-1.0-py2.py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) == {
            "green/__init__.py",
            "green-1.0.dist-info/METADATA",
            "green-1.0.dist-info/WHEEL",
            "green-1.0.dist-info/RECORD",
        }
        record = archive.read("green-1.0.dist-info/RECORD").decode()
    assert record.count("sha256=") == 3


def test_a_package_that_was_changed_is_refused(installed: Distribution, tmp_path: Path) -> None:
    (tmp_path / "green" / "__init__.py").write_text("COLOUR = 'blue'\n")
    with pytest.raises(BundleError, match="not what was installed"):
        repacked(installed, tmp_path)


def test_a_model_in_several_files_is_packed_whole(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    first = write_model(
        tmp_path / "here" / "tiny.Q8_0.gguf", openchat_vocabulary(), blocks=1, embedding=32,
        heads=2, kv_heads=1, feed_forward=64, tensors_in_a_part=8,
    )  # fmt: skip
    contents = choose_contents([str(first)], [])
    (model,) = contents.models
    sums = copied_models(tmp_path, contents, lambda _: None)
    packed = read_gguf(tmp_path / "models" / model.file_name)
    assert len(sums) == len(packed.parts) == 2
    assert packed.fingerprint == read_gguf(first).fingerprint
    assert model.bytes == packed.file_size
