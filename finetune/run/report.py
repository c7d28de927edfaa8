"""report.html: one file that shows what a run learned, with nothing to fetch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openchat_local.finetune.run.charts import COLOURS, Series, line_chart, smoothed
from openchat_local.finetune.run.directory import RunDirectory, write_atomically

SMOOTHING = 10  # steps
WORSE = 1.1  # times the training loss of the beginning: more than steps differ by chance

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; height: auto; font-size: 11px; }
svg text { fill: currentColor; } svg .y { text-anchor: end; } svg .x { text-anchor: middle; }
svg .grid { stroke: currentColor; opacity: .15; } svg polyline { fill: none; stroke-width: 2; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; } caption { text-align: left; }
th, td { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
pre, .answer { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.verdict { font-size: 1.15rem; padding: .6rem 1rem; border-left: 4px solid #0072b2; }
details { margin: 1rem 0; } section.prompt { border-top: 1px solid #8884; padding: .6rem 0; }
.columns { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
</style></head><body>
<h1>{{ title }}</h1>
<p class="verdict">{{ verdict }}</p>
{% for text in notices %}<p>⚠ {{ text }}</p>{% endfor %}
<h2>Loss</h2>
{{ loss_chart | safe }}
{{ rate_chart | safe }}
{% if classes %}<h2>Classes</h2>
<table><tr><th>class<th>condition<th>reward<th>held-out loss, first<th>best</tr>
{% for row in classes %}<tr><td>{{ row.name }}<td>{{ row.condition }}<td class="n">{{ row.reward }}
<td class="n">{{ row.first }}<td class="n">{{ row.best }}</tr>{% endfor %}</table>{% endif %}
{% for name, rows in tables %}<h2>{{ name }}</h2><table>
{% for key, value in rows %}<tr><th>{{ key }}<td>{{ value }}</tr>{% endfor %}</table>{% endfor %}
{% if answers %}<h2>Answers before and after</h2>
{% for answer in answers %}<section class="prompt"><b>{{ answer.prompt }}</b>
{% for one in answer.conditions %}<p><i>{{ one.condition or "no condition" }}</i></p>
<div class="columns"><div><small>before</small><div class="answer">{{ one.before }}</div></div>
<div><small>after</small><div class="answer">{{ one.after }}</div></div></div>{% endfor %}
</section>{% endfor %}{% endif %}
<details><summary>Every setting</summary><pre>{{ settings }}</pre></details>
</body></html>
"""


def write_report(run: RunDirectory) -> Path:
    """Write report.html from run.json and metrics.jsonl; where it is."""
    path = run.path / "report.html"
    write_atomically(path, render_report(run.settings(), list(run.metrics())).encode())
    return path


def render_report(settings: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> str:
    """The page for a run with these settings and metrics. Everything shown is escaped."""
    import json

    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(autoescape=True, trim_blocks=True)
    classes = settings.get("classes", [])
    names = [row["name"] for row in classes]
    return environment.from_string(_PAGE).render(
        title=f"Fine-tuning {settings.get('name', '')}".strip(),
        verdict=verdict(metrics),
        notices=[record["text"] for record in metrics if record["kind"] == "notice"],
        loss_chart=_loss_chart(metrics, names),
        rate_chart=_rate_chart(metrics),
        classes=_class_rows(classes, metrics),
        tables=[
            (name, _flat(settings[key]))
            for key, name in (("data", "Data"), ("plan", "Plan"), ("backend", "Backend"))
            if settings.get(key)
        ],
        answers=settings.get("answers", []),
        settings=json.dumps(settings, indent=2, ensure_ascii=False),
    )


def verdict(metrics: Sequence[Mapping[str, Any]]) -> str:
    """One honest sentence on what the losses say."""
    losses = [(r["step"], r["loss"]) for r in metrics if r["kind"] == "validation"]
    if not losses:
        return _without_held_out(metrics)
    if len(losses) == 1:
        return "The run ended before the held-out loss could be compared with that of the base."
    first = losses[0][1]
    step, best = min(losses, key=lambda item: item[1])
    if best >= first:
        return (
            f"This fine-tune did not help: the held-out loss was lowest ({first:.4f}) before it "
            "began. More or better data, or a lower learning rate, may."
        )
    return (
        f"The held-out loss fell from {first:.4f} to {best:.4f} "
        f"({100 * (best / first - 1):+.1f} %), lowest at step {step}, which is what was kept."
    )


def training_loss_rose(metrics: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a run without held-out data got worse at what it trained on: its last weights
    are kept then, whatever became of them, and chat should not get them by itself.

    With held-out data the best weights are kept, and `verdict` says what they are worth.
    """
    if any(record["kind"] == "validation" for record in metrics):
        return False
    first, last = _first_and_last(metrics)
    return last > first * WORSE


def _first_and_last(metrics: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The mean training loss over the first and the last quarter of the steps, up to SMOOTHING."""
    losses = [record["result"]["loss"] for record in metrics if record["kind"] == "step"]
    if not losses:
        return 0.0, 0.0
    count = min(SMOOTHING, max(1, len(losses) // 4))
    return sum(losses[:count]) / count, sum(losses[-count:]) / count


def _without_held_out(metrics: Sequence[Mapping[str, Any]]) -> str:
    if sum(record["kind"] == "step" for record in metrics) < 2:
        return "Without held-out data there is nothing to tell whether this helped."
    first, last = _first_and_last(metrics)
    if training_loss_rose(metrics):
        return f"The training loss rose from {first:.4f} to {last:.4f}: this run got worse."
    moved = "fell" if last < first else "did not fall"
    return (
        f"The training loss {moved} ({first:.4f} to {last:.4f}); without held-out data there is "
        "nothing to tell whether this helps on what it was not trained on."
    )


def _loss_chart(metrics: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Unweighted loss of each class: the training steps smoothed, the validations as dots."""
    trained: dict[int, list[tuple[float, float]]] = defaultdict(list)
    held_out: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for record in metrics:
        if record["kind"] not in ("step", "validation"):
            continue
        into = held_out if record["kind"] == "validation" else trained
        sums = record["classes"] if "classes" in record else record["result"]["classes"]
        for index, one in sums.items():
            if one["tokens"]:
                into[int(index)].append((record["step"], one["loss"] / one["tokens"]))
    series = []
    for index in sorted(trained | held_out):
        name = names[index] if index < len(names) else f"class {index}"
        colour = COLOURS[index % len(COLOURS)]
        series.append(Series(f"{name}, training", smoothed(trained[index], SMOOTHING), colour))
        series.append(Series(f"{name}, held out", held_out[index], colour, dots=True))
    return line_chart([one for one in series if one.points], "step", "nats a token")


def _rate_chart(metrics: Sequence[Mapping[str, Any]]) -> str:
    points = [(r["step"], r["learning_rate"]) for r in metrics if r["kind"] == "step"]
    series = [Series("learning rate", points, COLOURS[0])] if points else []
    return line_chart(series, "step", "learning rate")


def _class_rows(
    classes: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    validations = [record for record in metrics if record["kind"] == "validation"]
    best = min(validations, key=lambda record: record["loss"], default=None)
    first = validations[0] if validations else None
    return [
        {
            "name": str(row["name"]),
            "condition": str(row["condition"]),
            "reward": f"{row['reward']:g}",
            "first": _class_loss(first, index),
            "best": _class_loss(best, index),
        }
        for index, row in enumerate(classes)
    ]


def _class_loss(record: Mapping[str, Any] | None, index: int) -> str:
    sums = (record or {"classes": {}})["classes"].get(str(index))
    return f"{sums['loss'] / sums['tokens']:.4f}" if sums and sums["tokens"] else "–"


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of a table; what is empty is left out."""
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(item, Mapping):
            rows += _flat(item, f"{name}: ")
        elif isinstance(item, list) and item and isinstance(item[0], Mapping):
            for number, part in enumerate(item, 1):
                own = part.get("rule", {}) | part
                of = own.pop("name", number)
                own.pop("rule", None)
                rows += _flat(own, f"{name}: {of}: ")
        elif item not in (None, [], ""):
            rows.append((name, _shown(key, item)))
    return rows


def _shown(key: str, item: object) -> str:
    match item:
        case bool():
            return "yes" if item else "no"
        case int() | float() if key.endswith("bytes"):
            return f"{item / 1024**3:.2f} GiB"
        case float() if "share" in key:
            return f"{item:.1%}"
        case float():
            return f"{item:,.4g}"
        case int():
            return f"{item:,}"
        case list():
            return ", ".join(map(str, item))
    return str(item)
