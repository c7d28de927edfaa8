"""The loss so far as a small picture of Braille dots."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

LABEL = 8  # columns of the axis
HELD_OUT = "●"

Point = tuple[float, float]


def curve(
    trained: Sequence[Point], held_out: Sequence[Point], *, steps: int, width: int, height: int
) -> list[str]:
    """`height` lines of at most `width` columns, and one that says what they show; nothing for
    fewer than two points. Points are (step, nats a token), of `steps` in all."""
    from plotille import Canvas

    points = [*trained, *held_out]
    if len(trained) < 2:
        return []
    low, high = min(y for _, y in points), max(y for _, y in points)
    room = max((high - low) * 0.05, 1e-3)
    columns = max(width - LABEL - 1, 10)
    bottom, top = low - room, high + room
    canvas = Canvas(columns, height, xmin=0, xmax=max(steps, 1), ymin=bottom, ymax=top)
    for (x, y), (next_x, next_y) in pairwise(trained):
        canvas.line(x, y, next_x, next_y)
    for x, y in held_out:
        canvas.text(min(x, canvas.xmax_inside), min(max(y, bottom), canvas.ymax_inside), HELD_OUT)
    rows = canvas.plot(linesep="\n").split("\n")
    labels = [""] * height
    labels[0], labels[-1] = f"{high:.3f}", f"{low:.3f}"
    lines = [f"{label:>{LABEL}}▕{row}" for label, row in zip(labels, rows, strict=True)]
    legend = "loss in nats a token: ⠒⠒ training (smoothed)"
    legend += f"   {HELD_OUT} held out" if held_out else ""
    return [*lines, f"{'':{LABEL + 1}}{legend}"[:width]]
