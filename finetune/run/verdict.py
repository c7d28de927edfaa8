"""Whether a run helped, in one honest sentence: from the losses that it wrote down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COMPARED = 10  # steps at most, at either end
WORSE = 1.1  # times the training loss of the beginning: more than steps differ by chance


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
    """The mean training loss over the first and the last quarter of the steps, up to COMPARED."""
    losses = [record["result"]["loss"] for record in metrics if record["kind"] == "step"]
    if not losses:
        return 0.0, 0.0
    count = min(COMPARED, max(1, len(losses) // 4))
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
