"""A run of two processes is the run of one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from openchat_local.finetune.backends.group import SINGLE, launched

without_torch = pytest.mark.skipif(os.environ.get("TORCH") == "no", reason="set up with TORCH=no")
TEXTS = ("The river stood high until November.", "It returns a new list.", "Water boils.")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
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
        "--steps", "4", "--tokens-per-step", "128", "--learning-rate", "1e-3", "--held-out", "0.2",
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


@dataclass(frozen=True)
class Trained:
    """A run that ended well, the home that its adapter is in, and what was said."""

    run: Path
    home: Path
    said: str


@pytest.fixture(scope="module")
def trained(
    data: Path, tiny_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int], Trained]:
    """A run on a backend by so many processes, made once; a test changes a copy of it."""

    @cache
    def made(backend: str, processes: int) -> Trained:
        folder = tmp_path_factory.mktemp(f"{backend}-{processes}")
        home, arguments = folder / "home", command(data, tiny_path, folder / "run", backend)
        if processes == 1:
            done = alone(arguments, home)
        else:
            done = {"torch": torchrun, "mlx": mlx_launch}[backend](processes, arguments, home)
        assert done.returncode == 0, done.stdout + done.stderr
        return Trained(folder / "run", home, done.stdout + done.stderr)

    return made


def losses(run: Path) -> tuple[list[float], list[float]]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return (
        [record["result"]["loss"] for record in records if record["kind"] == "step"],
        [record["loss"] for record in records if record["kind"] == "validation"],
    )


@pytest.mark.parametrize("backend", [pytest.param("torch", marks=without_torch), "mlx"])
def test_two_processes_have_the_losses_of_one(
    backend: str, trained: Callable[[str, int], Trained]
) -> None:
    one, two = trained(backend, 1), trained(backend, 2)
    for expected, found in zip(losses(one.run), losses(two.run), strict=True):
        assert len(found) >= 2
        np.testing.assert_allclose(found, expected, rtol=2e-5)
    settings = json.loads((two.run / "run.json").read_text())
    assert settings["backend"]["processes"] == 2
    assert two.said.count("Chat with it") == 1  # one process speaks
    assert (two.home / "adapters").is_dir()


@without_torch
def test_a_run_of_two_goes_on_as_one(
    trained: Callable[[str, int], Trained], tmp_path: Path
) -> None:
    whole, two = trained("torch", 1), trained("torch", 2)
    run, home = tmp_path / "run", tmp_path / "home"
    shutil.copytree(two.run, run)
    # As if it had been killed after its first steps.
    checkpoints = sorted((run / "checkpoints").glob("step-*"))
    assert len(checkpoints) > 1
    for later in checkpoints[1:]:
        shutil.rmtree(later)
    on = alone(["finetune", "--resume", str(run)], home)
    assert on.returncode == 0, on.stderr
    np.testing.assert_allclose(losses(run)[0], losses(whole.run)[0], rtol=2e-5)


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
