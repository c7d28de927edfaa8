"""Pictures of results: points of classes, ladders, sweeps, histograms; as SVG and PNG.

The same figures give the same bytes. matplotlib, which draws, is imported inside functions:
who has not installed the extra that brings it gets tables alone (see `pictures_available`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from openchat_local.finetune.evaluation.canvas import (
    COLOURS,
    MARKERS,
    QUIET,
    WITHOUT_PICTURES,
    Drawing,
    canvas,
    empty,
    finish,
    legend,
    pictures_available,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "WITHOUT_PICTURES",
    "Drawing",
    "Estimate",
    "Panel",
    "bars_with_intervals",
    "histogram_per_class",
    "lines_with_intervals",
    "pictures_available",
    "scatter",
]

WIDTH = 8.0  # inches


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and the ends of its interval where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of several side by side: the points of each class, (points, 2). `note` stands
    under it, a line or several, such as a silhouette."""

    title: str
    points: Mapping[str, np.ndarray]
    note: str = ""


def scatter(panels: Sequence[Panel], *, x_label: str = "", y_label: str = "") -> Drawing:
    """Points of every class, a panel for each contender. A class has one colour and marker in
    all of them, by the order in which the panels name them. Each panel has its own axes."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.points))
    columns = max(1, min(len(panels), 3))
    rows = max(1, math.ceil(len(panels) / columns))
    height = 0.9 + WIDTH / columns * (0.9 if columns > 1 else 0.6)
    with canvas(WIDTH, 0.5 + rows * height) as figure:
        handles: dict[str, Any] = {}
        for number, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, number + 1)
            axes.set_title(plain(panel.title, 36), loc="left")
            below = [x_label, *panel.note.split("\n")]
            axes.set_xlabel("\n".join(plain(text) for text in below if text))
            axes.set_ylabel(plain(y_label) if number % columns == 0 else "")
            axes.tick_params(labelbottom=False, labelleft=False, length=0)
            for name, points in panel.points.items():
                if not len(points):
                    continue
                index = names.index(name)
                size = 26 if len(points) <= 150 else 12
                handles[name] = axes.scatter(
                    points[:, 0], points[:, 1], s=size, alpha=0.75, linewidths=0,
                    c=COLOURS[index % len(COLOURS)], marker=MARKERS[index % len(MARKERS)],
                )  # fmt: skip
            if not any(len(points) for points in panel.points.values()):
                empty(axes, "no points")
        shown = [name for name in names if name in handles]
        legend(figure, [handles[name] for name in shown], shown)
        return finish(figure)


def bars_with_intervals(
    labels: Sequence[str],
    series: Mapping[str, Sequence[Estimate | None]],
    *,
    value_label: str,
    from_zero: bool = True,
    reference: float | None = None,
) -> Drawing:
    """A ladder: a row for each label, top to bottom, and in it a bar for each series ("" for one
    that needs no name), with its interval. None leaves a gap.

    Without `from_zero` the axis begins where the figures do, and dots stand in for bars, whose
    lengths would mislead. `reference` is marked by a line, such as the base or chance.
    """
    with canvas(WIDTH, 1.1 + 0.16 * len(labels) + 0.3 * len(labels) * len(series)) as figure:
        axes = figure.add_subplot()
        thickness = 0.8 / max(len(series), 1)
        handles: list[Any] = []
        for index, estimates in enumerate(series.values()):
            shown = [(row, one) for row, one in enumerate(estimates) if _is_shown(one)]
            places = [row - 0.4 + (index + 0.5) * thickness for row, _ in shown]
            values = [one.value for _, one in shown if one is not None]
            colour = COLOURS[index % len(COLOURS)]
            whiskers = _whiskers(one for _, one in shown)
            if from_zero:
                handles.append(axes.barh(places, values, thickness * 0.86, color=colour, alpha=0.8))
                axes.errorbar(values, places, xerr=whiskers, fmt="none", color=QUIET, capsize=3)
            else:
                handles.append(axes.errorbar(
                    values, places, xerr=whiskers, fmt=MARKERS[index % len(MARKERS)],
                    color=colour, capsize=3, markersize=6,
                ))  # fmt: skip
        axes.set_yticks(range(len(labels)), [plain(label) for label in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(plain(value_label))
        if not _anything(series):
            empty(axes, "nothing measured")
        elif reference is not None and math.isfinite(reference):
            axes.axvline(reference, color=QUIET, linestyle="--", linewidth=1)
        legend(figure, handles, list(series))
        return finish(figure)


def lines_with_intervals(
    xs: Sequence[float] | Sequence[str],
    series: Mapping[str, Sequence[Estimate | None]],
    *,
    x_label: str,
    y_label: str,
    reference: float | None = None,
) -> Drawing:
    """A sweep: a line for each series over `xs`, whose intervals are whiskers. `xs` that are
    text stand evenly, in their order. None leaves a gap; `reference` is marked by a line."""
    with canvas(WIDTH, 3.8) as figure:
        axes = figure.add_subplot()
        ticks = [plain(x, 24) for x in xs if isinstance(x, str)]
        places = np.arange(len(xs)) if ticks else np.array(xs, dtype=np.float64)
        # Series that lie on each other would hide each other's whiskers.
        spread = float(np.ptp(places)) * 0.006 if len(places) else 0.0
        handles: list[Any] = []
        for index, estimates in enumerate(series.values()):
            shown = [place for place, one in zip(places, estimates, strict=True) if _is_shown(one)]
            found = [one for one in estimates if _is_shown(one)]
            offset = (index - (len(series) - 1) / 2) * spread
            handles.append(axes.errorbar(
                [x + offset for x in shown], [one.value for one in found if one is not None],
                yerr=_whiskers(found), color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)], markersize=6, linewidth=1.6, capsize=3,
            ))  # fmt: skip
        if ticks:
            axes.set_xticks(places, ticks)
        axes.set_xlabel(plain(x_label))
        axes.set_ylabel(plain(y_label))
        if not _anything(series):
            empty(axes, "nothing measured")
        elif reference is not None and math.isfinite(reference):
            axes.axhline(reference, color=QUIET, linestyle="--", linewidth=1)
        legend(figure, handles, list(series))
        return finish(figure)


def histogram_per_class(
    values: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    bins: int | Sequence[float] = 20,
) -> Drawing:
    """A row for each class, under each other on one axis: which share of its values lies where,
    in percent, and a line at their mean. `bins` counts them, or gives their edges."""
    finite = {name: [v for v in those if math.isfinite(v)] for name, those in values.items()}
    everything = [value for those in finite.values() for value in those]
    edges = np.histogram_bin_edges(everything or [0.0, 1.0], bins)
    shares = {
        name: np.histogram(those, edges)[0] * (100 / max(len(those), 1))
        for name, those in finite.items()
    }
    highest = max((float(share.max()) for share in shares.values()), default=0.0) or 100.0
    with canvas(WIDTH, 0.8 + 1.4 * max(len(values), 1)) as figure:
        first: Axes | None = None
        for index, (name, those) in enumerate(finite.items()):
            axes = figure.add_subplot(len(values), 1, index + 1, sharex=first, sharey=first)
            first = first or axes
            count = f"{len(those):,} answer" + ("" if len(those) == 1 else "s")
            axes.set_title(f"{plain(name)}: {count}", loc="left")
            axes.set_ylabel("%")
            colour = COLOURS[index % len(COLOURS)]
            axes.stairs(shares[name], edges, fill=True, color=colour, alpha=0.8)
            if those:
                axes.axvline(float(np.mean(those)), color=QUIET, linestyle="--", linewidth=1.2)
            axes.tick_params(labelbottom=index == len(values) - 1)
        if first is None:
            empty(figure.add_subplot(), "nothing measured")
        else:
            first.set_ylim(0, highest * 1.05)
            axes.set_xlabel(plain(x_label) + "; dashed: the mean")
        return finish(figure)


def _anything(series: Mapping[str, Sequence[Estimate | None]]) -> bool:
    return any(_is_shown(one) for estimates in series.values() for one in estimates)


def _is_shown(one: Estimate | None) -> bool:
    return one is not None and math.isfinite(one.value)


def _whiskers(estimates: Iterable[Estimate | None]) -> np.ndarray:
    """(2, estimates): how far each interval reaches below and above; 0 where there is none."""
    reaches = [
        [
            one.value - one.low if one.low is not None and math.isfinite(one.low) else 0.0,
            one.high - one.value if one.high is not None and math.isfinite(one.high) else 0.0,
        ]
        for one in estimates
        if one is not None
    ]
    return np.maximum(np.array(reaches, dtype=np.float64).reshape(-1, 2).T, 0.0)
