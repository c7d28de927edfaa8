"""How long a run still takes, from its last steps."""

from __future__ import annotations

from collections.abc import Sequence

WINDOW = 20  # steps that figures are averaged over
_WARM = 3  # steps after which their own time tells more than the plan's


def seconds_left(
    left: int, steps: int, recent: Sequence[float], planned: float, validating: float
) -> float | None:
    """Seconds for the `left` ones of `steps` steps; None if unknown. `recent` are the seconds of
    the last WINDOW steps, `planned` those of a step as measured before, `validating` those of
    all validations."""
    warm = recent[1:]  # the first one compiles
    each = sum(warm) / len(warm) if len(warm) >= _WARM else planned
    return left * each + validating * left / max(1, steps) if each else None
