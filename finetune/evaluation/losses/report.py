"""What is shown and kept of measured losses: a table, a sentence a contender, rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.finetune.evaluation.losses.figures import (
    Cell,
    Change,
    Nats,
    cells_of,
    change_between,
)
from openchat_local.finetune.evaluation.result import Result, Table
from openchat_local.finetune.evaluation.statistics import Interval
from openchat_local.models.library.adapter_file import AdapterCard

BASE = "base"
# Below it the drawn conversations are too much alike: intervals that should hold the true change
# in 95 of 100 files hold it in 90 (of ten conversations) or 80 (of five).
FEW = 10
TITLE = "How well the answers in {} are predicted"


def result_of(
    file: Path,
    answers: Answers,
    nats: Mapping[str, Nats],
    cards: Mapping[str, AdapterCard],
    made_by: Mapping[str, Any],
    doubts: Sequence[str],
) -> Result:
    """What was measured on `file`: the first of `nats` is the base's, and the others are those
    of the adapters with these `cards`, all by label."""
    base, *others = nats
    cells = cells_of(answers, nats[base], {label: nats[label] for label in others})
    labels = list(cards)
    return Result(
        "loss",
        TITLE.format(file.name),
        made_by,
        {
            "file": str(file),
            "adapter": labels[0] if len(labels) == 1 else None,
            "adapters": labels,
            "by": made_by["settings"]["by"],
            "losses": [summary_row(cell) for cell in cells],
        },
        sentences=[*sentences_of(answers, nats, cells, cards)],
        tables=[table_of(cells)],
        notes=[*doubts, *answers.notes],
        rows=[*conversation_rows(answers, nats)],
    )


def table_of(cells: Sequence[Cell]) -> Table:
    """A line for the base in every cell, and one a contender below it."""
    compared = any(cell.changes for cell in cells)
    last = ("change", "95 % interval") if compared else ("95 % interval",)
    columns = ("class", "condition", "conversations", "tokens", "model", "loss", *last)
    rows = []
    for cell in cells:
        counts = f"{cell.conversations:,}", f"{cell.tokens:,}"
        rest = ("", "") if compared else (_between(cell.interval, "{:.4f}"),)
        head = cell.class_name, cell.condition or "(none)", *counts
        rows.append((*head, BASE, f"{cell.base_loss:.4f}", *rest))
        for change in cell.changes:
            error = f" ± {change.standard_error:.4f}" if change.interval is not None else ""
            figures = f"{change.loss:.4f}", f"{change.change:+.4f}{error}"
            rows.append(("", "", "", "", change.label, *figures, _between(change.interval)))
    return Table("Loss of the answers, nats a token", columns, rows, _note(cells, compared))


def _note(cells: Sequence[Cell], compared: bool) -> str:
    notes = ["Lower is better."]
    if compared:
        notes.append("± is the standard error of the change from the base.")
    if any(cell.conversations < 2 for cell in cells):
        notes.append("One conversation has no interval.")
    if any(1 < cell.conversations < FEW for cell in cells):
        notes.append(f"An interval from fewer than {FEW} conversations is too narrow.")
    return " ".join(notes)


def own_cell(cells: Sequence[Cell], card: AdapterCard | None) -> Cell:
    """The best class under the condition that one chats under with an adapter of this card."""
    condition = None if card is None else card.condition
    best = [cell for cell in cells if cell.class_name == cells[0].class_name]
    return next((cell for cell in best if cell.condition == condition), cells[0])


def verdict(cell: Cell, change: Change) -> str:
    """Whether a contender predicts the answers of `cell` better than the base does."""
    about = f"{cell.class_name} answers under {_condition(cell)}"
    if change.interval is None:
        return (
            f"{change.label} changes the loss of the one conversation with {about} by "
            f"{change.change:+.4f} nats a token, which says nothing of others."
        )
    few = ", too few to rely on it" if cell.conversations < FEW else ""
    size = (
        f"{change.change:+.4f} nats a token (95 % interval {_between(change.interval)}, "
        f"{cell.conversations:,} conversations{few})"
    )
    if not change.is_told_from_chance:
        return (
            f"No difference between {change.label} and the base that can be told from chance on "
            f"{about}: {size}."
        )
    if change.change < 0:
        return f"{change.label} predicts {about} better than the base: {size}."
    return f"{change.label} predicts {about} worse than the base, so it did not help: {size}."


def sentences_of(
    answers: Answers,
    nats: Mapping[str, Nats],
    cells: Sequence[Cell],
    cards: Mapping[str, AdapterCard],
) -> Iterator[str]:
    """What each contender is worth, by label, and how the best one stands to the next."""
    own = {label: own_cell(cells, card) for label, card in cards.items()}
    for label, cell in own.items():
        yield verdict(cell, cell.change_of(label))
    ranked = sorted(own, key=lambda label: own[label].change_of(label).loss)
    if len(ranked) > 1:
        yield from _between_the_best(answers, nats, own, *ranked[:2])


def _between_the_best(
    answers: Answers, nats: Mapping[str, Nats], own: Mapping[str, Cell], best: str, next_: str
) -> Iterator[str]:
    """Each under its own condition, since that is how one would chat with it."""
    cell = own[best]
    names = [rule.name for rule in answers.policy.classes]
    chosen = answers.classes == names.index(cell.class_name)
    tokens, others = (answers.tokens[own[label].condition][chosen] for label in (best, next_))
    if len(tokens) < 2 or not np.array_equal(tokens, others):
        return  # cut to a length, other tokens are judged under another condition
    before, after = (nats[label][own[label].condition][chosen] for label in (next_, best))
    change = change_between(best, before, after, tokens.astype(np.float64))
    size = f"{change.change:+.4f} nats a token (95 % interval {_between(change.interval)})"
    if change.is_told_from_chance:
        yield (
            f"On these, {best} is the best, ahead of {next_}, each under its own condition: {size}."
        )
    else:
        yield (
            f"On these, {best} has the lowest loss, which cannot be told from {next_}'s: {size}."
        )


def summary_row(cell: Cell) -> dict[str, Any]:
    """For programs. `adapter_loss`, `change`, `standard_error` and `interval` are those of a
    single contender; `adapters` are all."""
    single = cell.changes[0] if len(cell.changes) == 1 else None
    return {
        "class_name": cell.class_name,
        "condition": cell.condition,
        "conversations": cell.conversations,
        "tokens": cell.tokens,
        "base_loss": cell.base_loss,
        "base_perplexity": cell.base_perplexity,
        "base_interval": cell.interval,
        "adapter_loss": None if single is None else single.loss,
        "change": None if single is None else single.change,
        "standard_error": 0.0 if single is None else single.standard_error,
        "interval": None if single is None else single.interval,
        "adapters": [asdict(one) | {"perplexity": one.perplexity} for one in cell.changes],
    }


def conversation_rows(answers: Answers, nats: Mapping[str, Nats]) -> Iterator[dict[str, Any]]:
    """Every conversation under every condition: its line, and what each contender makes of it."""
    for number, index in enumerate(answers.classes.tolist()):
        for condition, rows in answers.rows.items():
            yield {
                "line": int(rows.lines[number]),
                "class": answers.policy.classes[index].name,
                "condition": condition,
                "tokens": int(answers.tokens[condition][number]),
                "nats": {
                    label: round(float(found[condition][number]), 4)
                    for label, found in nats.items()
                },
            }


def _condition(cell: Cell) -> str:
    return f"the condition {cell.condition!r}" if cell.condition else "no condition"


def _between(interval: Interval | None, form: str = "{:+.4f}") -> str:
    if interval is None:
        return "–"
    return f"{form.format(interval.low)} to {form.format(interval.high)}"
