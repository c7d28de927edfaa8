"""What a run shows fits into a terminal, with its numbers whole."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from openchat_local.app.cli.finetune_curve import curve
from openchat_local.app.cli.finetune_display import Display, class_lines, plan_lines
from openchat_local.finetune.backends.trainer import ClassSums
from openchat_local.finetune.data.epoch import Layout
from openchat_local.finetune.run.events import Halted, Ready, WentOn
from openchat_local.finetune.run.plan import Plan

LONG = "gpt-3.5-turbo-0613-azure-deployment-number-12-eu-west"


def sums(count: int) -> dict[int, ClassSums]:
    return {i: ClassSums(0.0, 0.0, loss=123.4 + i, tokens=100, correct=29) for i in range(count)}


@pytest.mark.parametrize(
    "names",
    [["expert"], ["expert", LONG], [LONG, f"{LONG}-2"], ["猫" * 30, "expert"],
     [f"{LONG}-{i}" for i in range(12)]],
)  # fmt: skip
@pytest.mark.parametrize("width", [40, 80, 200])
def test_long_names_of_classes_are_shortened_and_no_number_is(names: list[str], width: int) -> None:
    losses, right = class_lines([sums(len(names))], names, width)
    assert cell_len(losses) <= width
    assert cell_len(right) <= width
    shown = re.findall(r"\d\.\d{3}(?:,|$)", losses)
    more = re.search(r"and (\d+) more", losses)
    assert len(shown) + (int(more[1]) if more else 0) == len(names)
    assert losses.startswith("loss a token: ")
    assert "29%" in right


def test_what_fits_is_not_shortened() -> None:
    losses, right = class_lines([sums(2)], ["expert", "gpt-3.5-turbo-0613"], 60)
    assert losses == "loss a token: expert 1.234, gpt-3.5-turbo-0613 1.244"
    assert right == "right tokens: expert 29%, gpt-3.5-turbo-0613 29%"


def test_a_falling_loss_falls_in_the_curve() -> None:
    trained = [(step, 4.0 - step / 10) for step in range(1, 31)]
    lines = curve(trained, [(0, 4.1), (30, 1.2)], steps=30, width=80, height=5)
    assert len(lines) == 6
    assert all(cell_len(line) <= 80 for line in lines)
    assert lines[0].strip().startswith("4.100▕●")
    assert lines[4].strip().startswith("1.000▕")
    left = [re.search("[⠁-⣿]", line) for line in lines[:5]]
    columns = [found.start() for found in left if found is not None]
    assert len(columns) == 5
    assert columns == sorted(columns)


@pytest.mark.parametrize("points", [[], [(1, 2.0)]])
def test_one_point_is_no_curve(points: list[tuple[float, float]]) -> None:
    assert curve(points, [(0, 3.0)], steps=10, width=80, height=5) == []


def test_a_flat_loss_can_be_drawn() -> None:
    assert len(curve([(1, 2.0), (2, 2.0)], [], steps=2, width=80, height=5)) == 6


def test_the_plan_is_told_in_sentences() -> None:
    plan = Plan(
        Layout(512, 512, 128, packing=False), steps=60, epochs=1.2, steps_per_epoch=50,
        checkpointing=False, predicted_bytes=0, available_bytes=2**30, step_seconds=3.0,
        validations=4, validation_seconds=2.0,
    )  # fmt: skip
    lines = plan_lines(Ready(plan, "torch: the CPU", ("A note.",)))
    assert lines[-2:] == ["Time: about 3 min, of which 10 s for validation.", "A note."]


def test_a_run_that_gives_way_says_so_once_and_whenever_it_is_paused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Display() as display:
        for why in ("giving way", "giving way", "paused", "paused"):
            display.show(Halted(why))
            display.show(WentOn(0.1))
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "Training stands still while a reply is written.",
        "Training is paused.",
        "Training is paused.",
    ]
