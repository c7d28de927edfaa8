"""Training and decoding beside one busy core, as on a laptop that does something else as well.

Threads of a computation wait for each other thousands of times a second, and by default they
spin while they wait: whoever shares a core with another program is then waited for by all,
a time slice long. Each contender is a process that lives through all rounds; in each round it
gives a sample while the machine is idle and one beside a process that keeps a core busy.

`python -m bench.busy WHAT NAME=VALUE,NAME=VALUE …` compares environments.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from bench.report import interleave, table
from openchat_local.finetune.backends.mlx import OPENBLAS
from openchat_local.models.system.child_process import LOOKS_OF_TRAINING, sharing_cores

ROUNDS = 5
WHAT = {"torch": "s a step", "mlx": "s a step", "prefill": "s a token", "decode": "s a token"}
# What they do where nobody says otherwise: libgomp's default is to spin for milliseconds.
SPINNING = {"GOMP_SPINCOUNT": "300000", "OPENBLAS_THREAD_TIMEOUT": "26"}


class Contender:
    """A process that gives a sample when asked."""

    def __init__(self, what: str, environment: Mapping[str, str]) -> None:
        # An engine gives its own child the environment that it is to have.
        trains = what in ("torch", "mlx")
        own = sharing_cores(LOOKS_OF_TRAINING) if trains else dict(os.environ)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.busy_run", what], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=own | dict(environment),
        )  # fmt: skip
        self._read()

    def sample(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("a contender has ended")
        return line


@contextmanager
def busy_core() -> Iterator[None]:
    """Another process wants a core throughout."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def compare(what: str, environments: Mapping[str, Mapping[str, str]], rounds: int = ROUNDS) -> None:
    with ExitStack() as stack:
        contenders = {name: Contender(what, e) for name, e in environments.items()}
        for each in contenders.values():
            stack.callback(each.close)

        def beside(contender: Contender) -> float:
            with busy_core():
                return contender.sample()

        samples = {}
        for name, each in contenders.items():
            samples[f"{name}, idle"] = each.sample
            samples[f"{name}, beside a busy core"] = lambda each=each: beside(each)
        first = next(iter(samples))
        print(f"### {what}\n\n{table(interleave(samples, rounds), WHAT[what], against=first)}\n")


def main() -> None:
    for what in WHAT:
        if what == "mlx" and OPENBLAS is None:
            continue  # its own BLAS is thirty times slower, and uses one thread
        # Prompts that are read by threads which spin take minutes.
        spinning = {} if what == "prefill" else {"threads that spin": SPINNING}
        compare(what, {"as it comes": {}} | spinning)


if __name__ == "__main__":
    chosen = {given: dict(pair.split("=") for pair in given.split(",")) for given in sys.argv[2:]}
    compare(sys.argv[1], {"as it comes": {}} | chosen)
