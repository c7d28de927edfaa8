"""The losses of a run as curves, a class a colour: lines while it learns, marks where answers
that were kept aside were tried.

The dots are plotille's. (textual-plotext would be a second library for one widget, without a
release since 2024, that paints all of its plot anew at every refresh.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.widget import Widget

from openchat_local.app.printable import one_line
from openchat_local.finetune.run.course import Course, Point

AXIS = 7  # columns of its numbers
NAMES = 22  # columns at most for the names at the ends of the curves
SHORTEST_PLOT = 20
SMOOTHING = 10  # steps, of eighty and more; of fewer, an eighth
STYLES = ("$text-success", "$text-warning", "$text-error", "$text-accent", "$text-secondary")
MARKS = ("●", "◆", "▲", "■", "▼")
EMPTY = "The curves begin with the first steps."
_BRAILLE = 0x2800

Piece = tuple[str, str]
"""A text and its style."""
Row = list[Piece]


@dataclass(frozen=True, slots=True)
class Curve:
    """The losses of one class, which is the `index`th of the run: points are (step, nats a
    token)."""

    index: int
    name: str
    trained: tuple[Point, ...]
    held_out: tuple[Point, ...]

    @property
    def style(self) -> str:
        return STYLES[self.index % len(STYLES)]

    @property
    def mark(self) -> str:
        return MARKS[self.index % len(MARKS)]

    @property
    def last(self) -> float:
        """The loss that it has come to."""
        return (self.trained or self.held_out)[-1][1]


def curves_of(course: Course, columns: int) -> list[Curve]:
    """The curves of a run, smoothed, and no finer than `columns` can show."""
    curves = []
    for index in sorted(course.trained.keys() | course.held_out.keys()):
        name = course.classes[index] if index < len(course.classes) else f"class {index + 1}"
        trained = course.trained.get(index, [])
        window = max(1, min(SMOOTHING, len(trained) // 8))
        points = tuple(_thinned(_smoothed(trained, window), columns))
        held_out = tuple(course.held_out.get(index, ()))
        if points or held_out:
            curves.append(Curve(index, one_line(name), points, held_out))
    return curves


def _smoothed(points: Sequence[Point], window: int) -> list[Point]:
    """The mean of each point and those before it, `window` of them at most."""
    smoothed, total = [], 0.0
    for index, (x, y) in enumerate(points):
        total += y - (points[index - window][1] if index >= window else 0.0)
        smoothed.append((x, total / min(index + 1, window)))
    return smoothed


def _thinned(points: Sequence[Point], count: int) -> list[Point]:
    """At most `count` of the points and the last, evenly chosen."""
    every = max(1, -(-len(points) // max(count, 1)))
    return [*points[:-1:every], *points[-1:]]


def plot(course: Course, width: int, height: int) -> list[Row]:
    """The curves in `height` rows of at most `width` columns: axis, curves, the classes' names
    where their curves end, the steps below, and what the signs mean."""
    curves = curves_of(course, 2 * width)
    if not curves or height < 3:
        return [[(EMPTY, "dim")]]
    shown = height - 2
    room = min(NAMES, max(cell_len(curve.name) for curve in curves) + 7)
    columns = max(SHORTEST_PLOT, width - AXIS - 2 - room)
    values = [y for curve in curves for _, y in (*curve.trained, *curve.held_out)]
    margin = max((max(values) - min(values)) * 0.05, 1e-3)
    low, high = min(values) - margin, max(values) + margin
    area = _Area(columns, shown, max(course.steps, course.step, 1), low, high)
    axis = area.axis()
    names = _names_beside(curves, area, max(0, width - AXIS - 1 - columns))
    rows = [
        [(axis[row], "dim"), *pieces, *names.get(row, ())]
        for row, pieces in enumerate(_painted(curves, area))
    ]
    return [*rows, _steps_below(area), _cut(_legend(curves), width)]


@dataclass(frozen=True, slots=True)
class _Area:
    """Where the curves are: cells, and what they stand for."""

    columns: int
    rows: int
    steps: float
    low: float
    high: float

    def row(self, y: float) -> int:
        """The row of a loss, from above."""
        share = (self.high - y) / (self.high - self.low)
        return min(max(int(share * self.rows), 0), self.rows - 1)

    def column(self, x: float) -> int:
        return min(max(int(x / self.steps * self.columns), 0), self.columns - 1)

    def axis(self) -> list[str]:
        """The numbers on the left: at the top, at the bottom and, with room, between."""
        labels = dict.fromkeys(range(self.rows), "")
        ends = [0, self.rows - 1, *([self.rows // 2] if self.rows >= 7 else [])]
        if self.high - self.low < 0.03:  # they would all be the same
            ends = [self.rows // 2]
        for row in ends:
            labels[row] = f"{self.high - (row + 0.5) / self.rows * (self.high - self.low):.2f}"
        return [f"{label:>{AXIS}}▕" for label in labels.values()]


def _painted(curves: Sequence[Curve], area: _Area) -> list[Row]:
    """The curves as dots, those of the best class above the others', and their marks."""
    cells: list[list[Piece]] = [[(" ", "")] * area.columns for _ in range(area.rows)]
    for curve in reversed(curves):
        for row, line in enumerate(_dots(curve, area)):
            for column, character in enumerate(line):
                if dots := ord(character) - _BRAILLE:
                    below = ord(cells[row][column][0]) - _BRAILLE
                    both = dots | max(below, 0)
                    cells[row][column] = (chr(_BRAILLE + both), curve.style)
    for curve in reversed(curves):
        for x, y in curve.held_out:
            cells[area.row(y)][area.column(x)] = (curve.mark, f"bold {curve.style}")
    return [_joined(row) for row in cells]


def _dots(curve: Curve, area: _Area) -> list[str]:
    from plotille import Canvas

    canvas = Canvas(area.columns, area.rows, 0, area.low, area.steps, area.high)
    for x, y in curve.trained[:1]:
        canvas.point(min(x, canvas.xmax_inside), y)
    for (x, y), (next_x, next_y) in pairwise(curve.trained):
        canvas.line(x, y, min(next_x, canvas.xmax_inside), next_y)
    return str(canvas.plot(linesep="\n")).split("\n")


def _joined(cells: Row) -> Row:
    """Neighbours of one style as one piece."""
    pieces: Row = []
    for text, style in cells:
        if pieces and pieces[-1][1] == style:
            pieces[-1] = (pieces[-1][0] + text, style)
        else:
            pieces.append((text, style))
    return pieces


def _names_beside(curves: Sequence[Curve], area: _Area, width: int) -> dict[int, Row]:
    """By row, the name and the last loss of the curve that ends there, or as near as there is
    room: told apart without colour too."""
    taken: dict[int, Row] = {}
    for curve in curves[: area.rows]:
        number = f" {curve.last:.2f}"
        name = curve.name
        if cell_len(name) > (room := max(1, width - len(number) - 1)):
            name = set_cell_size(name, room - 1) + "…"
        wanted = area.row(curve.last)
        row = min(set(range(area.rows)) - taken.keys(), key=lambda one: (abs(one - wanted), one))
        taken[row] = [(f" {name}{number}", curve.style)]
    return taken


def _steps_below(area: _Area) -> Row:
    last = f"step {area.steps:,.0f}"
    return [(f"{'':{AXIS + 1}}0{last:>{area.columns - 1}}", "dim")]


def _legend(curves: Sequence[Curve]) -> Row:
    legend: Row = [(f"{'':{AXIS + 1}}surprise (lower is better): ⠒⠒ learning", "dim")]
    if marks := [(curve.mark, curve.style) for curve in curves if curve.held_out]:
        legend += [("  ", ""), *marks, (" answers kept aside", "dim")]
    return legend


def _cut(row: Row, width: int) -> Row:
    """What of a row has room."""
    pieces: Row = []
    for text, style in row:
        room = width - sum(cell_len(piece) for piece, _ in pieces)
        pieces.append((text if cell_len(text) <= room else set_cell_size(text, room), style))
    return pieces


class LossPlot(Widget):
    """Shows the course of a run, and paints it anew when told that it has changed."""

    DEFAULT_CSS = """
    LossPlot { height: 1fr; min-height: 9; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._course = Course()

    def show(self, course: Course) -> None:
        """Paint `course`, which may be the same one some steps later."""
        self._course = course
        self.refresh()

    def render(self) -> Content:
        width, height = self.content_size
        rows = plot(self._course, width, height)
        return Content("\n").join(Content.assemble(*row) for row in rows)
