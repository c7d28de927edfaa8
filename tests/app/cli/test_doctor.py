"""`doctor` as a person runs it, on homes that are well and homes that are not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openchat_local.app.chats import ChatStore
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import PROGRAM, run_here

Doctor = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """Runs `doctor --no-speed` where PyTorch does not start and MLX says little."""
    (tmp_path / "torch.py").write_text("import os; os.abort()")
    (tmp_path / "mlx").mkdir()
    (tmp_path / "mlx" / "core.py").write_text("raise ImportError('no such device')")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_here("doctor", "--no-speed", *arguments, PYTHONPATH=str(tmp_path))

    return run


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, Any]]]:
    """By what they are about."""
    report = json.loads(done.stdout)
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in report["findings"]:
        found.setdefault(finding["about"], []).append(finding)
    assert report["problems"] == sum(f["status"] == "problem" for f in report["findings"])
    return found


def test_where_all_is_well_it_says_so_and_what_there_is(home: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "tiny.Q8_0.gguf", openchat_vocabulary(), name="tiny")
    assert run_here("models", "add", model).returncode == 0
    store = ChatStore.open(home)  # another instance, at work
    try:
        done = run_here("doctor", "--json", "--verify")
    finally:
        store.close()
    assert done.returncode == 0, done.stdout
    found = findings(done)
    assert {finding["status"] for group in found.values() for finding in group} <= {"ok", "note"}
    assert found["chats"][0]["facts"]["chats"] == 0
    assert found["model"][0]["facts"]["name"] == "starter"
    listed = run_here("models", "list", "--json").stdout.splitlines()
    (starter,) = (row for row in map(json.loads, listed) if row["name"] == "starter")
    assert found["model"][0]["facts"]["need"] == starter["need_bytes"]
    assert "whole by every byte" in found["models"][0]["text"]
    assert found["llama.cpp"][0]["facts"]["version"]
    assert found["PyTorch"][0]["facts"]["installed"]
    assert found["speed"][0]["facts"]["decode"] > 0


def test_where_nothing_is_yet_nothing_is_made(home: Path, doctor: Doctor) -> None:
    found = findings(doctor("--json"))
    assert "not there yet" in found["data home"][0]["text"]
    assert found["chats"][0]["status"] == "ok"
    assert "speed" not in found
    assert not home.exists()


def test_every_fault_is_told_with_what_to_do(home: Path, tmp_path: Path, doctor: Doctor) -> None:
    for name in ("short", "changed"):
        model = write_model(tmp_path / f"{name}.gguf", openchat_vocabulary(), name=name)
        assert run_here("models", "add", model).returncode == 0
    installed = {path.parent.name.partition("@")[0]: path for path in home.glob("models/*/*.gguf")}
    _truncate(installed["short"])
    _overwrite(installed["changed"], installed["changed"].stat().st_size - 4096)
    elsewhere = write_model(tmp_path / "elsewhere.gguf", openchat_vocabulary(), name="elsewhere")
    write_random_adapter(home / "adapters" / "orphan" / "adapter.gguf", elsewhere)
    ChatStore.open(home).close()
    _overwrite(home / "chats.db", 3 * 4096)
    (home / "config.toml").write_text("context = 4096\ntemprature = 0.5\n")

    done = doctor("--verify")
    assert done.returncode == 1
    assert done.stderr == ""
    assert "config.toml, line 2, temprature is not a setting" in done.stdout
    assert "chats.db is damaged" in done.stdout
    assert "history restore FILE" in done.stdout
    assert "short.gguf is" in done.stdout
    assert "The model changed:" in done.stdout
    assert "is damaged: the SHA-256" in done.stdout
    assert "orphan was trained on" in done.stdout
    assert "PyTorch is installed and does not start (killed by signal 6" in done.stdout
    assert "MLX is installed and does not start (exit code 1: ImportError" in done.stdout
    assert "problems: do what the arrows say" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_a_home_that_may_not_be_read_is_a_problem_and_no_crash(
    home: Path, tmp_path: Path, doctor: Doctor
) -> None:
    ChatStore.open(home).close()
    home.chmod(0o000)
    prefix: list[str] = []
    if os.geteuid() == 0:  # whom mode bits do not stop, unless this right is taken away
        setpriv = shutil.which("setpriv")
        assert setpriv is not None, "util-linux is not installed"
        rights = "-dac_override,-dac_read_search"
        prefix = [setpriv, f"--bounding-set={rights}", f"--inh-caps={rights}"]
    try:
        done = subprocess.run(
            [*prefix, *PROGRAM, "doctor", "--no-speed", "--json"],
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        home.chmod(0o700)
    assert done.returncode == 1, done.stderr
    found = findings(done)
    for about in ("data home", "settings", "chats", "models"):
        assert found[about][0]["status"] == "problem"
    assert "may not be read" in found["data home"][0]["text"]
    assert found["Python"][0]["status"] == "ok"


def test_a_model_that_is_elsewhere_is_no_problem_and_is_not_asked(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text('model = "@box"\n[engines.box]\nurl = "http://127.0.0.1:9"\n')
    found = findings(run_here("doctor", "--json"))
    assert [finding["status"] for finding in found["model"]] == ["ok"]
    assert "http://127.0.0.1:9/v1" in found["model"][0]["text"]
    assert "speed" not in found


def test_a_home_that_is_a_file_is_a_problem(home: Path, doctor: Doctor) -> None:
    home.write_text("not a folder")
    done = doctor()
    assert done.returncode == 1
    assert f"{home} is a file." in done.stdout
    assert "OPENCHAT_LOCAL_HOME" in done.stdout


def test_a_home_that_others_can_read_is_a_note_and_the_offline_switch_is_told(
    home: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    home.chmod(0o755)
    monkeypatch.setenv("OPENCHAT_LOCAL_OFFLINE", "1")
    found = findings(doctor("--json"))
    assert found["data home"][0]["status"] == ("ok" if os.name == "nt" else "note")
    assert found["network"][0]["facts"]["offline"] is True


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _overwrite(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * 1024)
