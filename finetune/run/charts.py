"""Line charts as SVG text, for a report that opens anywhere without a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 16, 34, 40
# Told apart by the colour-blind as well (Okabe and Ito, 2008); on a dark page, lighter.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#4a90c2")
DARK_COLOURS = ("#56b4e9", "#ff8c42", "#2fc79a", "#e8a6cc", "#f0c24b", "#9bd0f5")


def colour(index: int) -> str:
    """A colour of the page's style sheet, `--series-N`, over and over."""
    return f"var(--series-{index % len(COLOURS)})"


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: points (x, y), by increasing x. `dots` draws them, else a line does."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dots: bool = False


def line_chart(
    series: Sequence[Series], x_label: str, y_label: str, *, whole_x: bool = False
) -> str:
    """An SVG element with all series on one pair of axes; "" when there is nothing to draw.

    With `whole_x`, x counts something, and its ticks are whole numbers. The legend is apart.
    """
    points = [p for one in series for p in one.points if all(map(math.isfinite, p))]
    if not points:
        return ""
    x_ticks = ticks(min(x for x, _ in points), max(x for x, _ in points), whole=whole_x)
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points))
    axes = _Axes(x_ticks, y_ticks)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)}">',
        *axes.grid(x_label, y_label),
        *(_curve(one, axes) for one in series),
        "</svg>",
    ]
    return "".join(parts)


def ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """About `count` round numbers, the first at most `low`, the last at least `high`; whole
    ones if need be."""
    largest = max(abs(low), abs(high))
    if high - low <= max(1e-6 * largest, 1e-12):  # flat, but for rounding
        high = low + (largest if largest > 1e-9 else 1.0)
    rough = max((high - low) / count, 1.0 if whole else 0.0)
    power = 10.0 ** math.floor(math.log10(rough))
    round_numbers = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    step = next(power * m for m in round_numbers if power * m >= rough * (1 - 1e-9))
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
            parts.append(f'<text x="{LEFT - 10}" y="{py + 4:.1f}" class="y">{y:.4g}</text>')
        for x in self.x_ticks:
            px, _ = self.place(x, self.y_ticks[0])
            parts.append(f'<text x="{px:.1f}" y="{HEIGHT - BOTTOM + 18}" class="x">{x:.6g}</text>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" class="x">{escape(x_label)}</text>')
        # Above the plot, where no line of the grid is.
        parts.append(f'<text x="0" y="{TOP - 18}">{escape(y_label)}</text>')
        return parts


def _curve(series: Series, axes: _Axes) -> str:
    places = [axes.place(x, y) for x, y in series.points if math.isfinite(x) and math.isfinite(y)]
    about = f"<title>{escape(series.name)}</title>"
    if series.dots:
        circles = (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>' for x, y in places)
        return f'<g class="dots" style="fill:{series.colour}">{about}{"".join(circles)}</g>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline points="{path}" style="stroke:{series.colour}">{about}</polyline>'
