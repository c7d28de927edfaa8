"""What batches of several rows cost against one row, and the ceilings that follow from it.

One row is timed beside every other size, within a fraction of a second, in one process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

import psutil

from bench.raw_batches import RawBatches
from bench.setting import rounds, starter
from bench.shapes import OPENCHAT_7B, write_openchat_vocabulary, write_random_model

SIZES = (2, 3, 4, 5, 6, 8, 12, 16, 24, 32)
ACCEPTED = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def main() -> None:
    cores = psutil.cpu_count(logical=False) or 1
    for name, opened in (("starter", starter_model), (OPENCHAT_7B.name, openchat_model)):
        with opened() as model, closing(RawBatches(model, cores)) as raw:
            print(f"### {name}, {cores} threads\n")
            report(raw, rounds(8 if name == "starter" else 3))


@contextmanager
def starter_model() -> Iterator[Path]:
    yield starter()


@contextmanager
def openchat_model() -> Iterator[Path]:
    """The 7B shape, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = write_openchat_vocabulary(Path(folder) / "vocabulary.gguf")
        yield write_random_model(Path(folder) / "openchat-7b.Q4_K_M.gguf", OPENCHAT_7B, vocabulary)


def report(raw: RawBatches, rounds: int) -> None:
    one, of_one, of_many = measure(raw, rounds)
    print(f"One row takes {1000 * one:.2f} ms (median).\n")
    print("| rows | of one sequence | a row of so many sequences | all together against one |")
    print("|---|---|---|---|")
    for size in SIZES:
        together = size / median(of_many[size])
        print(f"| {size} | {_spread(of_one[size])} | {_spread(of_many[size])} | {together:.2f}× |")
    costs = {1: 1.0} | {size: median(found) for size, found in of_one.items()}
    print("\n| drafts accepted, each | best rows | ceiling against one row |\n|---|---|---|")
    for rate in ACCEPTED:
        size, speed = ceiling(costs, rate)
        print(f"| {rate:.0%} | {size} | {speed:.2f}× |")
    size, speed = ceiling(costs, 1.0)
    print(f"| all | {size} | {speed:.2f}× |\n")


def measure(
    raw: RawBatches, rounds: int
) -> tuple[float, dict[int, list[float]], dict[int, list[float]]]:
    """Seconds of one row, and the ratios of each size of one sequence and of many."""
    singles: list[float] = []
    of_one: dict[int, list[float]] = {size: [] for size in SIZES}
    of_many: dict[int, list[float]] = {size: [] for size in SIZES}
    for number in range(rounds + 1):
        for size in SIZES:
            single = median(raw.rows(1) for _ in range(3))
            pair = raw.rows(size), raw.rows(size, sequences=True)
            if number:  # the first round warms up
                singles.append(single)
                of_one[size].append(pair[0] / single)
                of_many[size].append(pair[1] / single)
    return median(singles), of_one, of_many


def ceiling(costs: Mapping[int, float], rate: float) -> tuple[int, float]:
    """The number of rows that is best where each draft is accepted with this probability, and
    the speed then, as a multiple of one row's: (1 + p + … + p^(k-1)) / cost of k rows."""
    return max(
        ((size, sum(rate**row for row in range(size)) / cost) for size, cost in costs.items()),
        key=lambda found: found[1],
    )


def _spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f}–{max(values):.2f})"
