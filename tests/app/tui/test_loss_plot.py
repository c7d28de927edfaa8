"""The curves of a run as rows of text."""

from __future__ import annotations

import math

import pytest
from rich.cells import cell_len

from openchat_local.app.tui.widgets.loss_plot import EMPTY, MARKS, Row, curves_of, plot
from openchat_local.finetune.run.course import Course

WIDTHS = [(40, 8), (76, 12), (150, 36)]


def text(row: Row) -> str:
    return "".join(piece for piece, _ in row)


def whole(steps: int = 100, classes: tuple[str, ...] = ("good", "bad")) -> Course:
    numbers = range(1, steps + 1)
    return Course(
        classes=classes,
        step=steps,
        steps=steps,
        trained={
            index: [(n, 2.0 + index + math.exp(-n / 30)) for n in numbers]
            for index in range(len(classes))
        },
        held_out={index: [(0, 3.1 + index), (steps, 2.2 + index)] for index in range(len(classes))},
    )


@pytest.mark.parametrize(("width", "height"), WIDTHS)
@pytest.mark.parametrize("classes", [("good", "bad"), ("好的回答" * 9, "[b]text[/b]\x1b[31m")])
def test_it_fits_the_place_that_it_has(width: int, height: int, classes: tuple[str, str]) -> None:
    rows = plot(whole(classes=classes), width, height)
    assert len(rows) == height
    assert all(cell_len(text(row)) <= width for row in rows)
    assert "\x1b" not in "".join(map(text, rows))


def test_curves_are_told_apart_without_colour() -> None:
    rows = [text(row) for row in plot(whole(), 76, 14)]
    good, bad = (next(n for n, row in enumerate(rows) if name in row) for name in ("good", "bad"))
    assert bad < good  # each name where its curve ends: a higher loss is further up
    assert rows[good].rstrip().endswith("good 2.04")
    assert all(sum(row.count(mark) for row in rows[:-2]) == 2 for mark in MARKS[:2])


def test_a_falling_curve_falls_from_left_to_right() -> None:
    rows = [text(row) for row in plot(whole(classes=("all",)), 76, 14)][:-2]
    first_dots = [row.index(next(c for c in row if "\u2800" < c <= "\u28ff")) for row in rows
                  if any("\u2800" < c <= "\u28ff" for c in row)]  # fmt: skip
    assert first_dots == sorted(first_dots)
    assert len(first_dots) > 5


def test_a_run_of_one_step_has_a_dot_and_one_of_none_a_word() -> None:
    (row,) = plot(Course(), 76, 14)
    assert text(row) == EMPTY
    rows = plot(Course(step=1, steps=8, trained={0: [(1, 2.0)]}), 76, 14)
    assert any("\u2800" < c <= "\u28ff" for row in rows for c in text(row))
    assert "class 1" in "".join(map(text, rows))
    assert sum("2.00▕" in text(row) for row in rows) == 1  # not one number three times


def test_thousands_of_steps_are_no_more_work_than_the_columns() -> None:
    for steps in (1, 150, 15_000):
        for curve in curves_of(whole(steps), columns=152):
            assert len(curve.trained) <= 153
            assert curve.trained[-1][0] == steps
