"""report.html of an evaluation: one file with nothing to fetch; everything shown is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.result import Result, Table

SHOWN_ROWS = 200

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ result.title }}</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; --page: #fff;
  --text: #1b1f24; --quiet: #5b6570; --line: #d8dde3; --panel: #f5f7f9; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --page: #15181c; --text: #e6e9ec; --quiet: #9aa5b1;
  --line: #363d45; --panel: #1e2329; --accent: #56b4e9; } }
body { max-width: 66rem; margin: 1.5rem auto; padding: 0 1rem; background: var(--page);
  color: var(--text); }
h1 { margin: 0 0 .6rem; font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 1.2rem 0 .4rem; }
.quiet, figcaption { color: var(--quiet); }
.sentence { font-size: 1.1rem; margin: .6rem 0; padding: .5rem .9rem; background: var(--panel);
  border-left: 4px solid var(--accent); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .3rem 0; }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 500; color: var(--quiet); }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; background: #fff; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font-size: .85rem; }
summary { cursor: pointer; color: var(--accent); margin: .5rem 0; }
</style></head><body>
<h1>{{ result.title }}</h1>
{% for sentence in result.sentences %}<p class="sentence">{{ sentence }}</p>
{% endfor %}
{% for table in tables %}<h2>{{ table.title }}</h2><div class="wide"><table>
<tr>{% for name, right in table.columns %}<th{% if right %} class="n"{% endif %}>{{ name }}</th>
{% endfor %}</tr>
{% for row in table.rows %}<tr>{% for cell, right in row %}<td{% if right %} class="n"{% endif %}>
{{- cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% if table.note %}<p class="quiet">{{ table.note }}</p>{% endif %}
{% endfor %}
{% for picture in result.pictures %}<figure>{{ picture.svg | inline }}
<figcaption>{{ picture.caption }}</figcaption></figure>
{% endfor %}
{% for note in result.notes %}<p class="quiet">{{ note }}</p>
{% endfor %}
{% if rows %}<details><summary>{{ count }} rows{% if count > rows | length %}, the first
{{ rows | length }} here, all in rows.jsonl{% endif %}</summary>
{% for row in rows %}<pre>{{ row }}</pre>{% endfor %}</details>{% endif %}
<details><summary>What produced this</summary><pre>{{ made_by }}</pre></details>
</body></html>
"""


def render_page(result: Result, rows: Sequence[Mapping[str, Any]]) -> str:
    """The page of `result`, whose rows are `rows`."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from markupsafe import Markup

    environment = ImmutableSandboxedEnvironment(autoescape=True, trim_blocks=True)
    # Pictures are ours: their text was escaped by what drew them. An XML head is for files.
    environment.filters["inline"] = lambda svg: Markup(svg[max(0, svg.find("<svg")) :])
    return environment.from_string(PAGE).render(
        result=result,
        tables=[_aligned(table) for table in result.tables],
        rows=[json.dumps(row, ensure_ascii=False, indent=1) for row in rows[:SHOWN_ROWS]],
        count=len(rows),
        made_by=json.dumps(result.made_by, indent=2, ensure_ascii=False),
    )


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
