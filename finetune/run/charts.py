"""Line charts as SVG text, for a report that opens anywhere without a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 12, 34
# Told apart by the colour-blind as well (Okabe and Ito, 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: points (x, y), by increasing x. `dots` draws them, else a line does."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dots: bool = False


def line_chart(series: Sequence[Series], x_label: str, y_label: str) -> str:
    """An SVG element with all series on one pair of axes; "" when there is nothing to draw."""
    points = [p for one in series for p in one.points if all(map(math.isfinite, p))]
    if not points:
        return ""
    x_ticks = ticks(min(x for x, _ in points), max(x for x, _ in points))
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points))
    axes = _Axes(x_ticks, y_ticks)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)}">',
        *axes.grid(x_label, y_label),
        *(_curve(one, axes) for one in series),
        *_legend(series),
        "</svg>",
    ]
    return "".join(parts)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers, the first at most `low`, the last at least `high`."""
    largest = max(abs(low), abs(high))
    if high - low <= max(1e-6 * largest, 1e-12):  # flat, but for rounding
        high = low + (largest if largest > 1e-9 else 1.0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, last + 1)]


def smoothed(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """The mean of each point and those before it, `window` of them at most."""
    result = []
    for index, (x, _) in enumerate(points):
        values = [y for _, y in points[max(0, index - window + 1) : index + 1]]
        result.append((x, sum(values) / len(values)))
    return result


@dataclass(frozen=True, slots=True)
class _Axes:
    x_ticks: list[float]
    y_ticks: list[float]

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x_ticks[0]) / (self.x_ticks[-1] - self.x_ticks[0])
        up = (y - self.y_ticks[0]) / (self.y_ticks[-1] - self.y_ticks[0])
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    def grid(self, x_label: str, y_label: str) -> list[str]:
        parts = []
        for y in self.y_ticks:
            _, py = self.place(self.x_ticks[0], y)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py:.1f}" '
                         f'y2="{py:.1f}"/>')  # fmt: skip
            parts.append(f'<text x="{LEFT - 6}" y="{py + 4:.1f}" class="y">{y:.4g}</text>')
        for x in self.x_ticks:
            px, _ = self.place(x, self.y_ticks[0])
            parts.append(f'<text x="{px:.1f}" y="{HEIGHT - 18}" class="x">{x:.4g}</text>')
        parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 2}" class="x">{escape(x_label)}</text>')
        parts.append(f'<text x="{LEFT}" y="{TOP - 2}">{escape(y_label)}</text>')
        return parts


def _curve(series: Series, axes: _Axes) -> str:
    places = [axes.place(x, y) for x, y in series.points if math.isfinite(x) and math.isfinite(y)]
    if series.dots:
        return "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{series.colour}"/>' for x, y in places
        )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline points="{path}" stroke="{series.colour}"/>'


def _legend(series: Sequence[Series]) -> list[str]:
    parts = []
    for number, one in enumerate(series):
        y = TOP + 14 + 16 * number
        x = WIDTH - RIGHT - 190
        mark = (
            f'<circle cx="{x + 8}" cy="{y - 4}" r="3.5" fill="{one.colour}"/>'
            if one.dots
            else f'<line x1="{x}" x2="{x + 16}" y1="{y - 4}" y2="{y - 4}" stroke="{one.colour}" '
            'stroke-width="2"/>'
        )
        parts.append(f'{mark}<text x="{x + 22}" y="{y}">{escape(one.name)}</text>')
    return parts
