"""The model library: `models list` with fifty models, `models verify` beside `sha256sum`."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from bench.report import interleave, table
from bench.setting import program, run, starter, temporary_home

MODELS = 50
VERIFIED_BYTES = 1024**3


def main() -> None:
    print(f"`models list` with {MODELS} installed models\n")
    with temporary_home() as home:
        _install_many(home)
        lines = run(*program("models", "list")).stdout.splitlines()
        assert sum("linked" in line for line in lines) == MODELS
        contenders = {
            "python -c pass": lambda: _seconds([sys.executable, "-c", "pass"]),
            "models list": lambda: _seconds(program("models", "list")),
            "models list --json": lambda: _seconds(program("models", "list", "--json")),
        }
        print(table(interleave(contenders, rounds=11), "s"))

    print(f"\n`models verify` of a file of {VERIFIED_BYTES / 1024**3:.0f} GiB in the page cache\n")
    with temporary_home(), tempfile.TemporaryDirectory() as folder:
        file = _large_file(Path(folder))
        run(*program("models", "add", "--link", "--name", "large", str(file)))
        verifiers = {"models verify": lambda: _seconds(program("models", "verify", "large"))}
        if shutil.which("sha256sum"):
            verifiers["sha256sum"] = lambda: _seconds(["sha256sum", str(file)])
        against = "sha256sum" if len(verifiers) > 1 else None
        print(table(interleave(verifiers, rounds=5), "s", against=against))


def _install_many(home: Path) -> None:
    """Links to the starter, each under a name of its own; the first is added as a user does."""
    run(*program("models", "add", "--link", "--name", "model-0", str(starter())))
    (first,) = (home / "models").glob("model-0@*")
    for number in range(1, MODELS):
        folder = first.with_name(first.name.replace("model-0", f"model-{number}"))
        shutil.copytree(first, folder, symlinks=True)
        card = folder / "model.json"
        card.write_text(card.read_text().replace('"model-0"', f'"model-{number}"'))


def _large_file(folder: Path) -> Path:
    """The starter with bytes behind its tensors, written once so that they are in memory."""
    path = folder / "large.gguf"
    shutil.copyfile(starter(), path)
    with path.open("r+b") as file:
        block = bytes(range(256)) * 4096
        file.seek(0, 2)
        while file.tell() < VERIFIED_BYTES:
            file.write(block)
    return path


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    run(*command)
    return time.perf_counter() - started
