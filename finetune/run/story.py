"""What a run did, for somebody who has never heard of fine-tuning: a paragraph each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ABOUT_ANSWERS = (
    "The model answered prompts of your own data, without what it learned and with it, always "
    "with the likeliest word. What the data says is what somebody kept or wrote there."
)


def story(settings: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What run.json and the metrics tell, in the order in which it happened; nothing of what they
    do not."""
    train = (settings.get("data") or {}).get("train") or {}
    if not train:
        return
    base = settings.get("base") or {}
    model = str(base.get("name") or Path(str(base.get("path", "the model"))).stem)
    yield _shown(model, train, settings)
    classes = [row for row in settings.get("classes") or [] if isinstance(row, Mapping)]
    if len({row.get("condition") for row in classes}) > 1:
        yield _conditions(classes)
    yield (
        f"What it learned is in a small file beside {model}, the adapter. The model itself is as "
        "it was: without the adapter it answers as before, and the adapter can be taken away again."
    )
    held_out = (settings["data"].get("validation") or {}).get("conversations") or 0
    if held_out:
        yield _tested(held_out, metrics)


def _shown(model: str, train: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    counts = [
        f"{one['conversations']:,} of the class {one['rule']['name']}, which count "
        f"{_weight(one['rule']['reward'])}"
        for one in train.get("classes") or []
        if one.get("conversations")
    ]
    parent = settings.get("parent")
    began = f", beginning with the adapter {parent['name']}" if isinstance(parent, Mapping) else ""
    listed = f": {'; '.join(counts)}" if counts else ""
    return (
        f"{model} was shown {train.get('conversations', 0):,} conversations again and again"
        f"{began}{listed}. Of each it saw all, and learned to write the answers, word by word."
    )


def _weight(reward: float) -> str:
    if reward == 1:
        return "fully"
    return "not at all" if reward == 0 else f"{reward:g} times as much as the best"


def _conditions(classes: Sequence[Mapping[str, Any]]) -> str:
    words = [
        f"“{row['condition']}” for {row['name']}" if row["condition"] else f"none for {row['name']}"
        for row in classes
    ]
    return (
        f"Before every turn of a class stand words that name it ({_listed(words)}). So the model "
        "learned from all of them what is talked about, and from the best how to answer: in chat "
        "it is asked under the words of the best."
    )


def _tested(held_out: int, metrics: Sequence[Mapping[str, Any]]) -> str:
    losses = [record["loss"] for record in metrics if record["kind"] == "validation"]
    kept = f"{held_out:,} conversations were kept back and never learned"
    if len(losses) < 2:
        return f"{kept}."
    better = min(losses) < losses[0]
    found = (
        "it found their answers likelier than before"
        if better
        else ("it found their answers no likelier than before")
    )
    return (
        f"{kept}: on these it was tested now and then. At its best {found}; the loss in the "
        "picture is how surprised it was by each word, so that lower is better."
    )


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
