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
from openchat_local.finetune.run.report_page import PAGE
from openchat_local.finetune.run.story import ABOUT_ANSWERS, story
from openchat_local.finetune.run.verdict import verdict
from openchat_local.models.units import memory_in_words, time_in_words

SMOOTHING = 10  # steps, of eighty and more; of fewer, an eighth
SHOWN_ANSWERS = 3  # the others are folded
# Mappings whose keys are names given by others, and are shown as they are.
_NAMED_BY_OTHERS = frozenset(
    {"formats", "dropped", "digests", "ignored", "versions", "base_types", "rewards", "conditions"}
)


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
    answers, data = settings.get("answers", []), settings.get("data", {})
    return environment.from_string(PAGE).render(
        title=f"Fine-tuning {settings.get('name', '')}".strip(),
        facts=" · ".join(_facts(settings, metrics)),
        verdict=verdict(metrics),
        notices=[record["text"] for record in metrics if record["kind"] == "notice"],
        story=list(story(settings, metrics)),
        about_answers=ABOUT_ANSWERS,
        notes=[*data.get("taken", []), *data.get("notes", [])],
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
        yield f"{steps[-1]['step']:,} steps in {time_in_words(seconds)}"
    if device := settings.get("backend", {}).get("device"):
        yield f"{settings['backend'].get('backend', '')} on {device}".strip()


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
            return memory_in_words(item)
        case float() if "share" in key:
            return f"{item:.1%}"
        case float():
            return f"{item:,.4g}"
        case int():
            return f"{item:,}"
        case list():
            return ", ".join(map(str, item))
    return str(item)
