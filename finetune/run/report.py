"""report.html: one file that shows what a run learned, with nothing to fetch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openchat_local.finetune.run.charts import (
    COLOURS,
    DARK_COLOURS,
    Series,
    colour,
    line_chart,
    smoothed,
)
from openchat_local.finetune.run.directory import RunDirectory, write_atomically

SMOOTHING = 10  # steps, of eighty and more; of fewer, an eighth
WORSE = 1.1  # times the training loss of the beginning: more than steps differ by chance
SHOWN_ANSWERS = 3  # the others are folded
# Mappings whose keys are somebody's names, and stay as they are.
_NAMED_BY_OTHERS = frozenset(
    {"formats", "dropped", "digests", "ignored", "versions", "base_types", "rewards", "conditions"}
)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif;
  --page: #fff; --text: #1b1f24; --quiet: #5b6570; --line: #d8dde3; --panel: #f5f7f9;
  --accent: #0072b2; {{ light }} }
@media (prefers-color-scheme: dark) { :root { --page: #15181c; --text: #e6e9ec; --quiet: #9aa5b1;
  --line: #363d45; --panel: #1e2329; --accent: #56b4e9; {{ dark }} } }
body { max-width: 66rem; margin: 1.5rem auto; padding: 0 1rem; background: var(--page);
  color: var(--text); }
h1 { margin: 0; font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 1.2rem 0 .4rem; }
.quiet, small, caption, summary small { color: var(--quiet); }
.facts { margin: .1rem 0 .8rem; color: var(--quiet); }
.verdict { font-size: 1.1rem; margin: .6rem 0; padding: .5rem .9rem; background: var(--panel);
  border-left: 4px solid var(--accent); }
.notice { margin: .3rem 0; }
.learned { display: grid; grid-template-columns: 3fr 2fr; gap: 1.5rem; align-items: start; }
figure { margin: 0; } figcaption { color: var(--quiet); font-size: .85rem; }
svg { width: 100%; height: auto; font-size: 13px; }
svg text { fill: var(--quiet); } svg .y { text-anchor: end; } svg .x { text-anchor: middle; }
svg .grid { stroke: var(--line); } svg polyline { fill: none; stroke-width: 2; }
svg .dots { stroke: var(--page); stroke-width: 1.5; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 50%;
  margin-right: .4em; }
table { border-collapse: collapse; margin: .3rem 0; width: 100%; }
th, td { padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 500; color: var(--quiet); }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre, .text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.question { font-weight: 600; max-height: 6rem; overflow-y: auto; }
.asked { border-top: 1px solid var(--line); padding: .5rem 0; }
.answers { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; margin: .3rem 0; }
.answers > div { background: var(--panel); padding: .4rem .7rem; min-width: 0; }
.answers .text { max-height: 7.3rem; overflow-y: auto; }
details { margin: .5rem 0; } details svg { max-width: 40rem; display: block; }
summary { cursor: pointer; color: var(--accent); }
@media (max-width: 50rem) { .learned, .answers { grid-template-columns: 1fr; } }
@media print { .question, .answers .text { max-height: none; overflow: visible; } }
</style></head><body>
{% macro answers(one, wanted) %}<div class="answers">
<div><small>before</small><div class="text">{{ one.before or "(nothing)" }}</div></div>
<div><small>after</small><div class="text">{{ one.after or "(nothing)" }}</div></div>
{% if wanted %}<div><small>wanted: what the data says</small><div class="text">{{ wanted }}</div>
</div>{% endif %}</div>{% endmacro %}
{% macro asked(answer) %}<section class="asked"><div class="question text">{{ answer.prompt }}</div>
{% if answer.system %}<small>under the system prompt “{{ answer.system | truncate(120) }}”</small>
{% endif %}
{% for one in answer.conditions[:1] %}<small>{{ named(one.condition) }}</small>
{{ answers(one, answer.wanted) }}{% endfor %}
{% if answer.conditions | length > 1 %}<details><summary>Under the other conditions</summary>
{% for one in answer.conditions[1:] %}<small>{{ named(one.condition) }}</small>
{{ answers(one, "") }}{% endfor %}</details>{% endif %}</section>{% endmacro %}
<h1>{{ title }}</h1>
<p class="facts">{{ facts }}</p>
<p class="verdict">{{ verdict }}</p>
{% for text in notices %}<p class="notice">⚠ {{ text }}</p>{% endfor %}
<div class="learned">
{% if loss_chart %}<figure>{{ loss_chart | safe }}<figcaption>Lines: training
{%- if smoothing > 1 %}, the mean of the last {{ smoothing }} steps{% endif %}
{%- if classes | selectattr("held_out") | list %}; dots: held out{% endif %}.</figcaption>
</figure>{% endif %}
{% if classes %}<table>
<tr><th>class<th class="n">reward<th class="n">held-out loss<th class="n">at its best</tr>
{% for row in classes %}<tr><td><span class="swatch" style="background:{{ row.colour }}"></span>
{{ row.name }}<br><small>{{ named(row.condition) }}</small><td class="n">{{ row.reward }}
<td class="n">{{ row.first }}<td class="n">{{ row.best }}<br><small>{{ row.change }}</small></tr>
{% endfor %}</table>{% endif %}</div>
{% if shown %}<h2>Before, after, wanted</h2>
{% for answer in shown %}{{ asked(answer) }}{% endfor %}
{% if folded %}<details><summary>{{ folded | length }} more</summary>
{% for answer in folded %}{{ asked(answer) }}{% endfor %}</details>{% endif %}{% endif %}
<h2>How it was trained</h2>
{% for text in notes %}<p class="notice">• {{ text }}</p>{% endfor %}
{% if rate_chart %}<details><summary>Learning rate</summary>{{ rate_chart | safe }}</details>
{% endif %}
{% for name, rows in tables %}<details><summary>{{ name }}</summary><table>
{% for key, value in rows %}<tr><th>{{ key }}<td>{{ value }}</tr>{% endfor %}</table></details>
{% endfor %}
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
    answers = settings.get("answers", [])
    return environment.from_string(_PAGE).render(
        title=f"Fine-tuning {settings.get('name', '')}".strip(),
        facts=" · ".join(_facts(settings, metrics)),
        verdict=verdict(metrics),
        notices=[record["text"] for record in metrics if record["kind"] == "notice"],
        notes=settings.get("data", {}).get("notes", []),
        loss_chart=_loss_chart(metrics, [row["name"] for row in classes]),
        rate_chart=_rate_chart(metrics),
        classes=_class_rows(classes, metrics),
        named=lambda condition: f"under {condition}" if condition else "without a condition",
        tables=[
            (name, _flat(settings[key]))
            for key, name in (("data", "Data"), ("plan", "Plan"), ("backend", "Backend"))
            if settings.get(key)
        ],
        shown=answers[:SHOWN_ANSWERS],
        folded=answers[SHOWN_ANSWERS:],
        smoothing=_window(metrics),
        settings=json.dumps(settings, indent=2, ensure_ascii=False),
        light=_style(COLOURS),
        dark=_style(DARK_COLOURS),
    )


def _style(colours: Sequence[str]) -> str:
    return " ".join(f"--series-{index}: {value};" for index, value in enumerate(colours))


def _facts(settings: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What was trained on what, in a line."""
    if base := settings.get("base"):
        yield Path(base["path"]).name
    if train := settings.get("data", {}).get("train"):
        yield f"{train['conversations']:,} conversations of {Path(train['file']).name}"
    steps = [record for record in metrics if record["kind"] == "step"]
    if steps:
        seconds = sum(record.get("seconds", 0.0) for record in steps)
        yield f"{steps[-1]['step']:,} steps in {seconds / 60:,.1f} minutes"
    if device := settings.get("backend", {}).get("device"):
        yield f"{settings['backend'].get('backend', '')} on {device}".strip()


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


def _window(metrics: Sequence[Mapping[str, Any]]) -> int:
    """How many steps a point of the training curve is the mean of."""
    steps = len([record for record in metrics if record["kind"] == "step"])
    return max(1, min(SMOOTHING, steps // 8))


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
        line = smoothed(trained[index], _window(metrics))
        series.append(Series(f"{name}, training", line, colour(index)))
        series.append(Series(f"{name}, held out", held_out[index], colour(index), dots=True))
    shown = [one for one in series if one.points]
    return line_chart(shown, "step", "loss, nats a token", whole_x=True)


def _rate_chart(metrics: Sequence[Mapping[str, Any]]) -> str:
    points = [(r["step"], r["learning_rate"]) for r in metrics if r["kind"] == "step"]
    series = [Series("learning rate", points, colour(0))] if points else []
    return line_chart(series, "step", "learning rate", whole_x=True)


def _class_rows(
    classes: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    validations = [record for record in metrics if record["kind"] == "validation"]
    best = min(validations, key=lambda record: record["loss"], default=None)
    first = validations[0] if validations else None
    return [
        {
            "name": str(row["name"]),
            "condition": str(row["condition"]),
            "reward": f"{row['reward']:g}",
            "first": _loss_text(_class_loss(first, index)),
            "best": _loss_text(_class_loss(best, index)),
            "change": _change(_class_loss(first, index), _class_loss(best, index)),
            "colour": colour(index),
            "held_out": first is not None,
        }
        for index, row in enumerate(classes)
    ]


def _class_loss(record: Mapping[str, Any] | None, index: int) -> float | None:
    sums = (record or {"classes": {}})["classes"].get(str(index))
    return sums["loss"] / sums["tokens"] if sums and sums["tokens"] else None


def _loss_text(loss: float | None) -> str:
    return "–" if loss is None else f"{loss:.4f}"


def _change(first: float | None, best: float | None) -> str:
    return f"{best / first - 1:+.1%}" if first and best is not None else ""


def _flat(
    value: Mapping[str, Any], prefix: str = "", *, ours: bool = True
) -> list[tuple[str, str]]:
    """Nested settings as rows of a table; what is empty is left out. `ours` tells that the
    keys are names of this program, whose underscores are spaces."""
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        name = prefix + (key.replace("_", " ") if ours else key)
        if isinstance(item, Mapping):
            rows += _flat(item, f"{name}: ", ours=key not in _NAMED_BY_OTHERS)
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
