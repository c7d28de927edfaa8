"""The data report as a person reads it."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from openchat_local.app.cli.data_report import data_report
from openchat_local.finetune.data.policy import ClassRule
from openchat_local.finetune.data.report import ClassReport, DataReport, Lengths, SplitReport


def split(**figures: object) -> SplitReport:
    expert = ClassReport(ClassRule("gpt4", "GPT4 Correct", 1.0), 50, 0.1, 18225, 14611, 1.0, 0.64)
    other = ClassReport(ClassRule("[b]\x1b[2J", "", 0.1), 450, 0.9, 109826, 81017, 0.1, 0.36)
    whole = SplitReport("a.jsonl", 500, 1000, 128051, 95628, (expert, other),
                        Lengths(245, 599, 2180), 1, {"no weight": 7}, 12)  # fmt: skip
    return replace(whole, **figures)  # type: ignore[arg-type]


@pytest.fixture
def shown() -> str:
    from rich.console import Console

    report = DataReport(
        split(), split(conversations=33, duplicates=0), {"Alpaca": 533}, overlap=3, bad_lines=2,
        faults=("a.jsonl, line 3: is not JSON",), context=2048, template="chatml", digests={},
    )  # fmt: skip
    console = Console(file=io.StringIO(), width=80)
    console.print(data_report(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    "figures",
    [
        "533 Alpaca; template chatml, context 2,048",
        "conversations 500 33",
        "turns 1,000 1,000",
        "tokens 128,051 128,051",
        "… with weight 95,628 95,628",
        "median length 245 245",
        "95th percentile 599 599",
        "longest 2,180 2,180",
        "truncated 1 1",
        "duplicates left out 12 0",
        "dropped, no weight 7 7",
        "also trained on 3",
        "gpt4 GPT4 50 10.0% 18,225 1 1 64.0%",
        "[b]␛[2J none 450 90.0% 109,826 0.1 0.1 36.0%",
        "• Bad lines, left out: 2.",
        "a.jsonl, line 3: is not JSON",
    ],
)
def test_every_figure_is_shown(figures: str, shown: str) -> None:
    assert figures in [" ".join(line.split()) for line in shown.splitlines()]


def test_it_fits_a_terminal_and_obeys_nothing(shown: str) -> None:
    assert max(map(len, shown.splitlines())) <= 80
    assert "\x1b" not in shown
