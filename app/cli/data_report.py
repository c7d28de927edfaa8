"""The data report as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openchat_local.app.printable import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from openchat_local.finetune.data.report import DataReport, SplitReport


def data_report(report: DataReport) -> RenderableType:
    """Everything that `report` holds, ready for a Rich console."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(printable(taken)) for taken in report.taken]
    parts.append(_figures(report))
    parts += [
        _classes(split, title)
        for split, title in ((report.train, "Training"), (report.validation, "Validation"))
        if split.conversations
    ]
    parts += [Text(f"• {printable(note)}", style="yellow") for note in report.notes()]
    parts += [Text(f"  {printable(fault)}", style="dim") for fault in report.faults]
    return Group(*parts)


def _figures(report: DataReport) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    splits = (report.train, report.validation)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("training", justify="right")
    table.add_column("validation", justify="right")
    for name, values in (
        ("conversations", [split.conversations for split in splits]),
        ("turns", [split.turns for split in splits]),
        ("tokens", [split.tokens for split in splits]),
        ("… with weight", [split.supervised_tokens for split in splits]),
        ("median length", [split.lengths.p50 for split in splits]),
        ("95th percentile", [split.lengths.p95 for split in splits]),
        ("longest", [split.lengths.max for split in splits]),
        ("truncated", [split.truncated for split in splits]),
        ("duplicates left out", [split.duplicates for split in splits]),
    ):
        table.add_row(name, *(f"{value:,}" for value in values))
    for reason in {**report.train.dropped, **report.validation.dropped}:
        counts = (f"{split.dropped.get(reason, 0):,}" for split in splits)
        table.add_row(f"dropped, {reason}", *counts)
    if report.overlap:
        table.add_row("also trained on", "", f"{report.overlap:,}")
    formats = ", ".join(f"{count:,} {name}" for name, count in report.formats.items())
    about = f"{formats}; template {printable(report.template)}, context {report.context:,}"
    return Group(Text(about, style="dim"), table)


def _classes(split: SplitReport, title: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column("class", overflow="fold", min_width=11)  # sub-optimal
    table.add_column("condition", overflow="fold", min_width=9)
    for name in ("conversations", "share", "tokens", "reward", "weight", "of loss"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in split.classes:
        table.add_row(
            Text(printable(row.rule.name)),
            Text(printable(row.rule.condition) or "none"),
            f"{row.conversations:,}",
            f"{row.share:.1%}",
            f"{row.tokens:,}",
            f"{row.rule.reward:g}",
            f"{row.mean_weight:.3g}",
            f"{row.weight_share:.1%}",
        )
    return table
