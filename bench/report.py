"""Samples of several contenders, taken in turns, as a table of medians and spreads."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping


def interleave(
    contenders: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Call every contender once a round, so that a drifting machine is fair to all."""
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(warm_up + rounds):
        for name, measure in contenders.items():
            value = measure()
            if number >= warm_up:
                samples[name].append(value)
    return samples


def table(samples: Mapping[str, list[float]], unit: str, against: str | None = None) -> str:
    """Markdown: median, lowest and highest; and the median of the ratios, round by round."""
    head = f"| | median {unit} | min | max |" + (f" ratio to {against} |" if against else "")
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    for name, values in samples.items():
        cells = [name, *(f"{f(values):.4g}" for f in (statistics.median, min, max))]
        if against:
            ratios = [a / b for a, b in zip(values, samples[against], strict=True)]
            spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
            cells.append(f"**{statistics.median(ratios):.3f}** ({spread})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
