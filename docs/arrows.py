"""Draws docs/arrows.svg: which room imports which. `make arrows` runs it.

The arrows are read from the code (grimp, which import-linter uses as well), imports inside
functions and for types included. Those that others imply are left out: where the command line
imports settings and these import chats, its own imports of chats add no arrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grimp import ImportGraph

Arrows = Mapping[str, frozenset[str]]

PACKAGE = "openchat_local"
BANDS = ("app", "app.tui", "finetune", "models")
PICTURE = Path(__file__).with_name("arrows.svg")

MARGIN, TITLE = 16, 34
BOX, GAP, ROW = 28, 24, 72  # heights of a box and of a row, and the space between two boxes
STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2937 }
    .band { fill: #f8fafc; stroke: #cbd5e1 }
    .title { font-size: 14px; font-weight: 600; fill: #475569 }
    .room { fill: #ffffff; stroke: #64748b }
    .arrow { fill: none; stroke: #94a3b8; stroke-width: 1.3; marker-end: url(#tip) }
"""
TIP = (
    '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0 0 8 4 0 8z" fill="#64748b"/></marker>'
)


def arrows_within(graph: ImportGraph, band: str) -> Arrows:
    """The rooms of a band, "app" or "app.tui", each with those that it imports; of "", the
    bands themselves."""
    top = f"{PACKAGE}.{band}".rstrip(".")
    room_of = {
        module: room
        for room in graph.find_children(top)
        for module in {room, *graph.find_descendants(room)}
    }
    found: dict[str, set[str]] = {room: set() for room in room_of.values()}
    for module, room in room_of.items():
        imported = {room_of.get(one) for one in graph.find_modules_directly_imported_by(module)}
        found[room] |= {other for other in imported if other is not None and other != room}
    return {
        room.removeprefix(f"{top}."): frozenset(one.removeprefix(f"{top}.") for one in others)
        for room, others in sorted(found.items())
    }


def without_implied(arrows: Arrows) -> Arrows:
    """The arrows that no way over other rooms stands for."""
    reach = {room: _reachable(arrows, room) for room in arrows}
    return {
        room: frozenset(
            end
            for end in ends
            if not any(end in reach[via] and via not in reach[end] for via in ends - {end})
        )
        for room, ends in arrows.items()
    }


def rows_of(arrows: Arrows) -> list[list[str]]:
    """The rooms in rows, each below all that import it, and near to them."""
    importers = {room: {one for one, ends in arrows.items() if room in ends} for room in arrows}
    depth: dict[str, int] = {}

    def measure(room: str, below: frozenset[str] = frozenset()) -> int:
        if room not in depth:
            above = importers[room] - below - {room}  # of a circle, the arrow back does not count
            depth[room] = max(
                (measure(one, below | {room}) + 1 for one in sorted(above)), default=0
            )
        return depth[room]

    rows: list[list[str]] = [[] for _ in range(max(map(measure, sorted(arrows))) + 1)]
    for room in sorted(arrows):
        rows[depth[room]].append(room)
    place = _places(rows)
    for _ in range(4):
        for row in rows[1:]:
            row.sort(key=lambda room: (_middle(room, arrows, place), room))
            place = _places(rows)
    return rows


def picture() -> str:
    """The whole of docs/arrows.svg."""
    import grimp

    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    beside = arrows_within(graph, "")
    bands = {band: without_implied(arrows_within(graph, band)) for band in BANDS}
    rows = {band: rows_of(arrows) for band, arrows in bands.items()}
    width = 4 * MARGIN + max(_row_width(row) for found in rows.values() for row in found)
    parts: list[str] = []
    y = MARGIN
    for band, arrows in bands.items():
        height = TITLE + len(rows[band]) * ROW - (ROW - BOX) + MARGIN
        others = f" → {', '.join(sorted(beside[band]))}" if beside.get(band) else ""
        title = f"{band.replace('.', '/')}{others}"
        edge = f'width="{width - 2 * MARGIN}" height="{height}" rx="8"'
        parts.append(f'<rect class="band" x="{MARGIN}" y="{y}" {edge}/>')
        parts.append(f'<text class="title" x="{MARGIN + 14}" y="{y + 22}">{title}</text>')
        parts += _drawn(arrows, rows[band], width / 2, y + TITLE)
        y += height + MARGIN
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}">\n'
        f"<style>{STYLE}</style>\n<defs>{TIP}</defs>\n"
        f'<rect width="{width}" height="{y}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _drawn(arrows: Arrows, rows: list[list[str]], middle: float, top: int) -> Iterable[str]:
    place = {room: middle + x for room, x in _places(rows).items()}
    height = {room: top + number * ROW for number, row in enumerate(rows) for room in row}
    for room, ends in sorted(arrows.items()):
        x, y = place[room], height[room] + BOX
        for end in sorted(ends):
            to, under = place[end], height[end]
            half = (y + under) / 2
            curve = f"C{x:.0f} {half:.0f} {to:.0f} {half:.0f} {to:.0f} {under}"
            yield f'<path class="arrow" d="M{x:.0f} {y} {curve}"/>'
    for room in sorted(arrows):
        x, y, width = place[room], height[room], _width(room)
        box = f'x="{x - width / 2:.0f}" y="{y}" width="{width}" height="{BOX}" rx="5"'
        yield f'<rect class="room" {box}/>'
        yield f'<text x="{x:.0f}" y="{y + 18}" text-anchor="middle">{room}</text>'


def _places(rows: list[list[str]]) -> dict[str, float]:
    """The middle of each box, from the middle of its row."""
    place = {}
    for row in rows:
        x = -_row_width(row) / 2
        for room in row:
            place[room] = x + _width(room) / 2
            x += _width(room) + GAP
    return place


def _row_width(row: list[str]) -> int:
    return sum(map(_width, row)) + GAP * (len(row) - 1)


def _middle(room: str, arrows: Arrows, place: Mapping[str, float]) -> float:
    above = [place[one] for one, ends in arrows.items() if room in ends]
    return sum(above) / len(above) if above else place[room]


def _width(room: str) -> int:
    return 8 * len(room) + 24


def _reachable(arrows: Arrows, start: str) -> frozenset[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for end in arrows[waiting.pop()] - found:
            found.add(end)
            waiting.append(end)
    return frozenset(found)


if __name__ == "__main__":
    PICTURE.write_text(picture(), "utf-8")
