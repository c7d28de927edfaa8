"""report.html of an evaluation: one file with nothing to fetch; everything shown is escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openchat_local.finetune.evaluation.page_template import COLOUR_NAMES, PAGE

if TYPE_CHECKING:
    from markupsafe import Markup

    from openchat_local.finetune.evaluation.result import Result, Table

OPEN_ROWS, FOLD, SHOWN_ROWS = 10, 50, 510
_SHORT = 80  # characters of a value that stands among others in a line


@dataclass(frozen=True, slots=True)
class Card:
    """A row as it is shown: short values by name, long texts, and texts side by side."""

    number: int
    facts: Sequence[tuple[str, str]]
    texts: Sequence[tuple[str, str]]
    beside: Sequence[tuple[str, Sequence[tuple[str, str]]]]


def render_page(result: Result, rows: Sequence[Mapping[str, Any]]) -> str:
    """The page of `result`, whose rows are `rows`."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(autoescape=True, trim_blocks=True)
    environment.filters["inline"] = _inline
    cards = [card_of(number, row) for number, row in enumerate(rows[:SHOWN_ROWS], 1)]
    return environment.from_string(PAGE).render(
        result=result,
        tables=[_aligned(table) for table in result.tables],
        cards=cards[:OPEN_ROWS],
        folds=[cards[at : at + FOLD] for at in range(OPEN_ROWS, len(cards), FOLD)],
        shown=len(cards),
        count=len(rows),
        contenders=list(_contenders(result.made_by)),
        made_by=json.dumps(result.made_by, indent=2, ensure_ascii=False),
    )


def card_of(number: int, row: Mapping[str, Any]) -> Card:
    """What of `row` goes where."""
    facts, texts, beside = [], [], []
    for name, value in _flat(row):
        if isinstance(value, Mapping) and value:
            beside.append((name, [(str(key), text) for key, text in value.items()]))
            continue
        text = _shown(value)
        if "\n" in text or len(text) > _SHORT:
            texts.append((name, text))
        else:
            facts.append((name, text))
    return Card(number, facts, texts, beside)


def _flat(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its name, those of objects within by all of theirs; but for texts that
    belong together, which stay so."""
    for key, value in row.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and not all(isinstance(v, str) for v in value.values()):
            yield from _flat(value, f"{name} · ")
        else:
            yield name, value


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False)


def _contenders(made_by: Mapping[str, Any]) -> Iterator[str]:
    """Who was measured, in a few words each."""
    for one in made_by.get("contenders", ()):
        words = [str(one.get("model", "")), *filter(None, [one.get("adapter")])]
        if one.get("condition") is not None:
            words.append(f"under {one['condition'] or 'no condition'}")
        yield f"{one.get('label', '')}: {', '.join(words)}"


def _inline(svg: str) -> Markup:
    """A picture inside the page, whose colours follow the page's. Pictures are ours: their text
    was escaped by what drew them. An XML head is for files."""
    from markupsafe import Markup

    svg = svg[max(0, svg.find("<svg")) :]
    # Its size in points would keep it from filling its column.
    svg = re.sub(r'^(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'^(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    return Markup(_COLOUR.sub(_themed, svg))


_COLOUR = re.compile(r"(fill|stroke): (" + "|".join(COLOUR_NAMES) + r")\b")


def _themed(found: re.Match[str]) -> str:
    return f"{found[1]}: var(--{COLOUR_NAMES[found[2]]}, {found[2]})"


def _aligned(table: Table) -> dict[str, Any]:
    right = numeric_columns(table)
    return {
        "title": table.title,
        "note": table.note,
        "columns": list(zip(table.columns, right, strict=True)),
        "rows": [list(zip(row, right, strict=True)) for row in table.rows],
    }


def numeric_columns(table: Table) -> list[bool]:
    """Which columns hold nothing but numbers, and so stand to the right."""
    return [
        bool(table.rows) and all(_is_number(row[index]) for row in table.rows)
        for index in range(len(table.columns))
    ]


def _is_number(cell: str) -> bool:
    return not cell or cell[0] in "+-−–.0123456789" or cell in ("—", "n/a")
