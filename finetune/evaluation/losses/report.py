"""What is shown and kept of measured losses: rows, a table, a sentence a contender."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from openchat_local.finetune.evaluation.losses.figures import Cell, Change
from openchat_local.finetune.evaluation.result import Table
from openchat_local.finetune.evaluation.statistics import Interval

COLUMNS = (
    "class", "condition", "conversations", "tokens", "model", "loss", "change", "95 % interval",
)  # fmt: skip


def table_of(cells: Sequence[Cell]) -> Table:
    """The base's line of every cell, and one a contender below it."""
    rows = []
    for cell in cells:
        condition = cell.condition or "(none)"
        head = (cell.class_name, condition, f"{cell.conversations:,}", f"{cell.tokens:,}")
        own = "" if cell.changes else _interval(cell.interval, "{:.4f}")
        rows.append((*head, "base", f"{cell.base_loss:.4f}", "", own))
        for change in cell.changes:
            error = f" ± {change.standard_error:.4f}" if change.standard_error else ""
            figures = f"{change.loss:.4f}", f"{change.change:+.4f}{error}"
            between = _interval(change.interval, "{:+.4f}")
            rows.append(("", "", "", "", change.label, *figures, between))
    columns = COLUMNS if any(cell.changes for cell in cells) else (*COLUMNS[:6], *COLUMNS[7:])
    kept = [rows_of if columns == COLUMNS else (*rows_of[:6], *rows_of[7:]) for rows_of in rows]
    return Table("Loss of the answers, nats a token", columns, kept, _note(cells))


def sentences_of(cells: Sequence[Cell], own: Sequence[tuple[str, Cell]]) -> Iterator[str]:
    """What each contender is worth; `own` has its label and the cell that says so."""
    for label, cell in own:
        yield verdict(cell, cell.change_of(label))


def verdict(cell: Cell, change: Change) -> str:
    """Whether the answers of `cell` are predicted better than the base predicts them."""
    condition = f"the condition {cell.condition!r}" if cell.condition else "no condition"
    about = f"{cell.class_name} answers under {condition}"
    if change.interval is None:
        return (
            f"{change.label} changes the loss of the one conversation with {about} by "
            f"{change.change:+.4f} nats a token: one conversation says nothing about others."
        )
    size = (
        f"{change.change:+.4f} nats a token (95 % interval "
        f"{_interval(change.interval, '{:+.4f}')}, {cell.conversations:,} conversations)"
    )
    if not change.is_told_from_chance:
        return f"No difference that can be told from chance between {change.label} and the base on {about}: {size}."
    if change.change < 0:
        return f"{change.label} predicts {about} better than the base: {size}."
    return f"{change.label} predicts {about} worse than the base, so it did not help: {size}."


def row_of(cell: Cell) -> dict[str, Any]:
    """For programs. `adapter_loss`, `change` and `standard_error` are those of a single
    contender."""
    single = cell.changes[0] if len(cell.changes) == 1 else None
    return {
        "class_name": cell.class_name,
        "condition": cell.condition,
        "conversations": cell.conversations,
        "tokens": cell.tokens,
        "base_loss": cell.base_loss,
        "base_perplexity": cell.base_perplexity,
        "base_interval": _pair(cell.interval),
        "adapter_loss": None if single is None else single.loss,
        "change": None if single is None else single.change,
        "standard_error": 0.0 if single is None else single.standard_error,
        "interval": None if single is None else _pair(single.interval),
        "adapters": [
            asdict(change)
            | {"interval": _pair(change.interval), "perplexity": change.perplexity}
            for change in cell.changes
        ],
    }


def _note(cells: Sequence[Cell]) -> str:
    parts = ["Lower is better."]
    if any(cell.changes for cell in cells):
        parts.append("± is the standard error of the change.")
    if any(cell.conversations < 2 for cell in cells):
        parts.append("One conversation has no interval.")
    return " ".join(parts)


def _interval(interval: Interval | None, form: str) -> str:
    if interval is None:
        return "–"
    return f"{form.format(interval.low)} to {form.format(interval.high)}"


def _pair(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
