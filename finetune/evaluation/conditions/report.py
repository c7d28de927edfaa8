"""What is shown and kept of conditions: tables, sentences, the picture, answers side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openchat_local.finetune.evaluation.conditions.figures import (
    Difference,
    Seen,
    Spread,
    differences,
    own_is_together,
    spread,
)
from openchat_local.finetune.evaluation.conditions.projection import Silhouette
from openchat_local.finetune.evaluation.conditions.readings import Pair
from openchat_local.finetune.evaluation.conditions.sentences import (
    condition_sentences,
    named,
    spread_sentences,
)
from openchat_local.finetune.evaluation.conditions.side_by_side import Prompt, Written
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.finetune.evaluation.losses.figures import cells_of
from openchat_local.finetune.evaluation.losses.report import summary_row, table_of
from openchat_local.finetune.evaluation.pictures import (
    WITHOUT_PICTURES,
    Panel,
    pictures_available,
    scatter,
)
from openchat_local.finetune.evaluation.result import Picture, Result, Table

TITLE = "What the condition changes: answers of {}"
Answered = Mapping[tuple[Prompt, str], Written]
_OF_CONDITIONS = (
    " The condition stands before the answers: part of a distance between classes may be its own."
)
OWN, TOGETHER = "each class under its own condition", "all under {}"


def result_of(
    file: Path,
    answers: Answers,
    all_seen: Sequence[Seen],
    prompts: Sequence[Prompt],
    written: Mapping[str, Answered],
    made_by: Mapping[str, Any],
    doubts: Sequence[str],
    *,
    by_umap: bool = False,
) -> Result:
    """What was measured on `file`, the base first; `written` by label. Raises OpenChatError
    where UMAP cannot be had."""
    base, *others = all_seen
    cells = cells_of(
        answers, base.readings.nats, {seen.label: seen.readings.nats for seen in others}
    )
    found = {seen.label: differences(answers, seen) for seen in all_seen}
    spreads = _spreads(answers, all_seen, by_umap=by_umap)
    tables = [table_of(cells)]
    everything = [one for those in found.values() for one in those]
    tables += [
        _differences_table(pair, [one for one in everything if one.pair == pair])
        for pair in base.readings.between
    ]
    tables += [_spread_table(under, those) for under, those in spreads.items()]
    notes = [*doubts, *answers.notes]
    if not pictures_available():
        notes.append(WITHOUT_PICTURES)
    return Result(
        "conditions",
        TITLE.format(file.name),
        made_by,
        {
            "file": str(file),
            "conditions": list(answers.conditions),
            "losses": [summary_row(cell) for cell in cells],
            "differences": [_as_json(one) for one in everything],
            "silhouettes": [
                {"under": under, **_spread_json(one)}
                for under, those in spreads.items()
                for one in those
            ],
        },
        sentences=[
            *condition_sentences(answers, all_seen, found),
            *spread_sentences(answers, spreads),
        ],
        tables=tables,
        pictures=[*_pictures(answers, spreads, by_umap=by_umap)],
        notes=notes,
        rows=[*_prompt_rows(prompts, written), *_conversation_rows(answers, all_seen)],
    )


def _spreads(
    answers: Answers, all_seen: Sequence[Seen], *, by_umap: bool
) -> dict[str, list[Spread]]:
    """By what stands before the answers: first as the contenders were trained, then the same
    for all classes."""

    def of(label: str, vectors: np.ndarray) -> Spread:
        return spread(label, vectors, answers.classes, by_umap=by_umap)

    together = TOGETHER.format(named(answers.conditions[0]))
    if own_is_together(answers, all_seen):
        return {together: [of(seen.label, seen.vectors) for seen in all_seen]}
    return {
        OWN: [of(seen.label, seen.vectors) for seen in all_seen],
        together: [of(seen.label, seen.together) for seen in all_seen],
    }


def _differences_table(pair: Pair, found: Sequence[Difference]) -> Table:
    rows = [
        (
            one.label,
            "all" if one.class_name is None else one.class_name,
            f"{one.mean.shannon:.4f}",
            "–" if one.interval is None else f"{one.interval.low:.4f} to {one.interval.high:.4f}",
            f"{one.mean.shannon_most:.4f}",
            f"{one.mean.forward:.4f}",
            f"{one.mean.backward:.4f}",
            f"{one.mean.unseen:.1%}",
        )
        for one in found
    ]
    there, back = map(named, pair)
    return Table(
        f"How different the next tokens are under {there} and {back}, nats a token",
        ("model", "answers", "JS", "95 % interval", "at most", "KL", "KL back", "unseen"),
        rows,
        f"JS: the Jensen-Shannon divergence; KL: Kullback-Leibler's, from {there} to {back}, and "
        "back. Only the likeliest tokens of each position are known; all others, of the "
        "probability “unseen”, are counted as one. So each figure is a least, and “at most” the "
        "most that JS can be.",
    )


def _spread_table(under: str, spreads: Sequence[Spread]) -> Table:
    def figure(silhouette: Silhouette | None) -> str:
        return "–" if silhouette is None else f"{silhouette.mean:.3f}"

    rows = [
        (
            one.label,
            figure(one.apart),
            "–" if one.apart is None else f"{one.apart.by_chance:.3f}",
            figure(one.in_plane),
            "–" if one.plane.shares is None else f"{sum(one.plane.shares):.0%}",
        )
        for one in spreads
    ]
    return Table(
        f"How far apart the classes lie, {under}",
        ("model", "silhouette", "by chance", "in the plane", "spread in the plane"),
        rows,
        "“By chance” is the share of random classes of these sizes that lie as far apart.",
    )


def _pictures(
    answers: Answers, spreads: Mapping[str, Sequence[Spread]], *, by_umap: bool
) -> Iterator[Picture]:
    if not pictures_available():
        return
    method = "UMAP" if by_umap else "the first two principal components of each panel"
    for number, (under, those) in enumerate(spreads.items(), 1):
        panels = [
            # Of an adapter that is a file, the file's name.
            Panel(Path(one.label).name, _by_class(answers, one), _panel_note(one))
            for one in those
        ]
        yield scatter(panels).named(
            "answers" if number == 1 else "answers-together",
            f"Where the held-out answers lie, {under}: the mean of the last layer's states over "
            f"an answer's tokens, by {method}.{_OF_CONDITIONS if under == OWN else ''}",
        )


def _by_class(answers: Answers, one: Spread) -> dict[str, np.ndarray]:
    return {
        rule.name: one.plane.points[answers.classes == index]
        for index, rule in enumerate(answers.policy.classes)
    }


def _panel_note(one: Spread) -> str:
    if one.apart is None or one.in_plane is None:
        return ""
    return f"silhouette {one.apart.mean:.3f} (in the plane {one.in_plane.mean:.3f})"


def _prompt_rows(
    prompts: Sequence[Prompt], written: Mapping[str, Answered]
) -> Iterator[dict[str, Any]]:
    for prompt in prompts:
        yield {
            "prompt": "\n\n".join(turn.content for turn in prompt),
            "answers": {
                f"{label}, {named(condition)}": one.shown
                for label, answered in written.items()
                for (asked, condition), one in answered.items()
                if asked == prompt
            },
        }


def _conversation_rows(answers: Answers, all_seen: Sequence[Seen]) -> Iterator[dict[str, Any]]:
    lines = answers.rows[answers.conditions[0]].lines
    for number, index in enumerate(answers.classes.tolist()):
        yield {
            "line": int(lines[number]),
            "class": answers.policy.classes[index].name,
            "tokens": int(answers.tokens[answers.conditions[0]][number]),
            "nats": {
                seen.label: {
                    condition: float(nats[number]) for condition, nats in seen.readings.nats.items()
                }
                for seen in all_seen
            },
        }


def _as_json(one: Difference) -> dict[str, Any]:
    return {
        "label": one.label,
        "class_name": one.class_name,
        "between": list(one.pair),
        "tokens": one.tokens,
        **one.mean._asdict(),
        "shannon_interval": one.interval,
    }


def _spread_json(one: Spread) -> dict[str, Any]:
    return {
        "label": one.label,
        "silhouette": None if one.apart is None else one.apart.mean,
        "by_chance": None if one.apart is None else one.apart.by_chance,
        "silhouette_in_plane": None if one.in_plane is None else one.in_plane.mean,
        "shares_of_axes": one.plane.shares,
    }
