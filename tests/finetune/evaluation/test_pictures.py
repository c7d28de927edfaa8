"""Pictures of results: what is in them, and that the same figures give the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from openchat_local.finetune.evaluation.pictures import (
    Drawing,
    Estimate,
    Panel,
    bars_with_intervals,
    histogram_per_class,
    lines_with_intervals,
    scatter,
)

SVG = "{http://www.w3.org/2000/svg}"
CLOUD = np.array([[0.0, 1.0], [2.0, 3.0], [1.0, 0.5]])
LOSSES = [Estimate(1.85, 1.80, 1.90), Estimate(1.71, 1.70, 1.72)]


def two_panels() -> Drawing:
    clouds = {"gpt4": CLOUD, "gpt35": CLOUD + 4}
    return scatter([Panel("base", clouds, "silhouette 0.02"), Panel("C-RLFT", clouds)])


def ladder() -> Drawing:
    return bars_with_intervals(
        ["base", "C-RLFT"], {"GPT4 Correct": LOSSES}, value_label="nats a token", from_zero=False
    )


def sweep() -> Drawing:
    lines = {"expert": LOSSES, "sub-optimal": [Estimate(1.9), None]}
    return lines_with_intervals(["1:1", "1:0.1"], lines, x_label="rewards", y_label="nats")


def histogram() -> Drawing:
    return histogram_per_class({"gpt4": [8, 9, 9], "gpt35": [3, 8]}, x_label="score", bins=7)


DRAWN = [two_panels, ladder, sweep, histogram]


def words(drawing: Drawing) -> list[str]:
    """Every text in the picture, and that its SVG is XML."""
    tree = ET.fromstring(drawing.svg)
    return ["".join(text.itertext()) for text in tree.iter(f"{SVG}text")]


def test_a_scatter_names_its_panels_its_classes_and_what_stands_under_them() -> None:
    shown = words(two_panels())

    assert {"base", "C-RLFT", "gpt4", "gpt35", "silhouette 0.02"} <= set(shown)


def test_a_class_has_one_colour_in_every_panel() -> None:
    alone = scatter([Panel("base", {"gpt4": CLOUD}), Panel("C-RLFT", {"gpt35": CLOUD})])

    assert "#0072b2" in alone.svg
    assert "#d55e00" in alone.svg


def test_a_ladder_names_its_rows_and_its_series() -> None:
    assert {"base", "C-RLFT", "GPT4 Correct", "nats a token"} <= set(words(ladder()))


def test_a_sweep_stands_at_its_own_values() -> None:
    assert {"1:1", "1:0.1", "rewards", "nats", "expert", "sub-optimal"} <= set(words(sweep()))


def test_a_histogram_says_how_many_answers_each_class_has() -> None:
    assert {"gpt4: 3 answers", "gpt35: 2 answers"} <= set(words(histogram()))


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_the_same_figures_give_the_same_bytes(draw: Callable[[], Drawing]) -> None:
    first, second = draw(), draw()

    assert first == second
    assert first.png.startswith(b"\x89PNG")


def test_settings_of_this_machine_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process, in a folder with a matplotlibrc, draws what this one does."""
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nsvg.hashsalt: other\n")
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    program = (
        "import sys; from openchat_local.finetune.evaluation.pictures import *\n"
        "estimates = [Estimate(1.85, 1.80, 1.90), Estimate(1.71, 1.70, 1.72)]\n"
        "drawn = bars_with_intervals(['base', 'C-RLFT'], {'GPT4 Correct': estimates},\n"
        "                            value_label='nats a token', from_zero=False)\n"
        "sys.stdout.buffer.write(drawn.svg.encode())"
    )

    home = {
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    drawn = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=os.environ | home, capture_output=True, check=True, timeout=60,
    )  # fmt: skip

    assert drawn.stdout.decode() == ladder().svg
    assert [path.name for path in tmp_path.iterdir()] == ["matplotlibrc"]  # nothing was written


def test_names_are_shown_as_they_are_whatever_is_in_them() -> None:
    names = ["<script>", "_hidden", "$x$", "a\x1b[2J\nb", "日本語"]

    shown = words(scatter([Panel(names[0], dict.fromkeys(names, CLOUD))]))

    assert {"<script>", "_hidden", "$x$", "a\ufffd[2J b", "日本語"} <= set(shown)
    assert words(bars_with_intervals(names, {n: [] for n in names}, value_label=names[2]))


def test_where_nothing_was_measured_the_picture_says_so() -> None:
    nothing = [
        scatter([Panel("base", {"gpt4": np.zeros((0, 2))})]),
        scatter([]),
        bars_with_intervals([], {}, value_label="nats"),
        bars_with_intervals(["base"], {"": [None]}, value_label="nats", reference=0.5),
        lines_with_intervals([], {}, x_label="share", y_label="nats"),
        histogram_per_class({"gpt4": []}, x_label="score"),
        histogram_per_class({}, x_label="score"),
    ]

    assert [bool(words(drawing)) for drawing in nothing] == [True, False, *[True] * 5]
    assert "no points" in words(nothing[0])
    assert "nothing measured" in words(nothing[2])


def test_what_is_no_number_is_left_out() -> None:
    odd = [Estimate(float("nan"), 0, 1), Estimate(1.0, float("-inf"), None)]

    drawing = bars_with_intervals(["a", "b"], {"": odd}, value_label="x", reference=float("nan"))

    assert "nan" not in drawing.svg.lower()
    assert "1.0" in words(drawing)


def test_a_drawing_becomes_a_picture_of_a_result() -> None:
    drawing = ladder()

    picture = drawing.named("ladder", "What each brings.")

    assert (picture.name, picture.caption) == ("ladder", "What each brings.")
    assert (picture.svg, picture.png) == (drawing.svg, drawing.png)
