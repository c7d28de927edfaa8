"""A run of two processes is the run of one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openchat_local.finetune.backends.group import SINGLE, launched

without_torch = pytest.mark.skipif(os.environ.get("TORCH") == "no", reason="set up with TORCH=no")
TEXTS = ("The river stood high until November.", "It returns a new list.", "Water boils.")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    with path.open("w") as file:
        for number in range(24):
            text = " ".join(TEXTS[: number % 3 + 1])
            row = {
                "messages": [
                    {"role": "user", "content": f"Say number {number}."},
                    {"role": "assistant", "content": f"{text} {number}"},
                ],
                "class": "gpt4" if number % 3 else "gpt35",
            }
            file.write(json.dumps(row) + "\n")
    return path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def command(data: Path, model: Path, out: Path, backend: str, *more: str) -> list[str]:
    return [
        "finetune", str(data), "-m", str(model), "--template", "openchat-3.5", "--name", "shared",
        "--replace", "--out", str(out), "--backend", backend, "--precision", "float32", "--dense",
        "--steps", "6", "--tokens-per-step", "128", "--learning-rate", "1e-3", "--held-out", "0.2",
        "--no-packing", *more,
    ]  # fmt: skip


def torchrun(count: int, arguments: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    launcher = [
        sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}",
        "--master-addr=127.0.0.1", f"--master-port={free_port()}", "-m", "openchat_local",
    ]  # fmt: skip
    return run([*launcher, *arguments], home)


def mlx_launch(count: int, arguments: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    launcher = shutil.which("mlx.launch", path=str(Path(sys.executable).parent))
    assert launcher is not None
    program = Path(sys.executable).with_name("openchat-local")
    return run(
        [launcher, "-n", str(count), "--backend", "ring", "--", str(program), *arguments], home
    )


def alone(arguments: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "openchat_local", *arguments], home)


def run(arguments: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OPENCHAT_LOCAL_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=240, cwd=home.parent
    )


def losses(run: Path) -> tuple[list[float], list[float]]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return (
        [record["result"]["loss"] for record in records if record["kind"] == "step"],
        [record["loss"] for record in records if record["kind"] == "validation"],
    )


@pytest.mark.parametrize(
    ("backend", "launch"),
    [
        pytest.param("torch", torchrun, marks=without_torch),
        pytest.param("mlx", mlx_launch),
    ],
)
def test_two_processes_have_the_losses_of_one(
    backend: str, launch: object, data: Path, f16_path: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    one = alone(command(data, f16_path, tmp_path / "one", backend), home)
    assert one.returncode == 0, one.stderr
    two = launch(2, command(data, f16_path, tmp_path / "two", backend), home)  # type: ignore[operator]
    assert two.returncode == 0, two.stdout + two.stderr
    for expected, found in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert len(found) >= 2
        np.testing.assert_allclose(found, expected, rtol=2e-5)
    settings = json.loads((tmp_path / "two" / "run.json").read_text())
    assert settings["backend"]["processes"] == 2
    assert (two.stdout + two.stderr).count("Chat with it") == 1  # one process speaks
    assert (home / "adapters").is_dir()


@without_torch
def test_a_run_of_two_goes_on_as_one(data: Path, f16_path: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    arguments = command(data, f16_path, tmp_path / "run", "torch")
    whole = alone(command(data, f16_path, tmp_path / "whole", "torch"), home)
    assert whole.returncode == 0, whole.stderr
    assert torchrun(2, arguments, home).returncode == 0
    # As if it had been killed after its first steps.
    checkpoints = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert len(checkpoints) > 1
    for later in checkpoints[1:]:
        shutil.rmtree(later)
    on = alone(["finetune", "--resume", str(tmp_path / "run")], home)
    assert on.returncode == 0, on.stderr
    np.testing.assert_allclose(
        losses(tmp_path / "run")[0], losses(tmp_path / "whole")[0], rtol=2e-5
    )


def test_launchers_are_recognised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WORLD_SIZE", "RANK", "MLX_RANK", "MLX_WORLD_SIZE", "MLX_HOSTFILE"):
        monkeypatch.delenv(name, raising=False)
    assert launched() == (0, 1)
    monkeypatch.setenv("MLX_RANK", "1")
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps([["127.0.0.1:5000"], ["127.0.0.1:5001"], ["127.0.0.1:5002"]]))
    monkeypatch.setenv("MLX_HOSTFILE", str(hosts))
    assert launched() == (1, 3)
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "5")
    assert launched() == (5, 8)


def test_a_single_process_shares_with_nobody() -> None:
    assert SINGLE.share([1, 2, 3]) == [1, 2, 3]
    assert SINGLE.from_first({"a": 1}) == {"a": 1}
    assert SINGLE.all_well(True)
    assert not SINGLE.all_well(False)
