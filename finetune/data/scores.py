"""Classes by a number, such as "good>=4,fair>=2.5,poor"."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from openchat_local.finetune.data.numbers import as_number
from openchat_local.models.errors import OpenChatError

EXAMPLE = "good>=4,bad"
_PART = re.compile(r"\s*([^<>=,]+?)\s*(>=|<=|>|<)\s*(\S+)\s*")
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


class ClassesError(OpenChatError):
    """Words that say no classes by a number."""


@dataclass(frozen=True, slots=True)
class ScoreClasses:
    """The first of `steps`, a name with what a number has to be for it, that a number meets;
    else `rest`, None where such numbers are in no class."""

    steps: tuple[tuple[str, str, float], ...]
    rest: str | None

    def class_of(self, number: float) -> str | None:
        """The class of a number."""
        for name, sign, bound in self.steps:
            if _HOLDS[sign](number, bound):
                return name
        return self.rest

    def __str__(self) -> str:
        told = [f"{name} {sign} {bound:g}" for name, sign, bound in self.steps]
        return ", ".join([*told, *([f"else {self.rest}"] if self.rest else [])])


def parse_classes(text: str) -> ScoreClasses:
    """The classes that `text` says, such as EXAMPLE. Raises ClassesError."""
    parts = text.split(",")
    rest = None if any(sign in parts[-1] for sign in "<>=") else parts.pop().strip()
    steps = []
    for part in parts:
        found = _PART.fullmatch(part)
        bound = as_number(found[3]) if found else None
        if found is None or bound is None:
            raise ClassesError(f"{part.strip()!r} in {text!r} is no class: give {EXAMPLE}.")
        steps.append((found[1], found[2], bound))
    names = [name for name, _, _ in steps] + [rest] * (rest is not None)
    if not steps or rest == "" or len(set(names)) < len(names):
        raise ClassesError(f"{text!r} says no classes by a number: give {EXAMPLE}.")
    for (first, sign, bound), (second, other, next_bound) in pairwise(steps):
        falls, both = sign[0] == ">", sign[0] == other[0]
        if both and (next_bound >= bound if falls else next_bound <= bound):
            raise ClassesError(
                f"In {text!r} nothing is left for {second!r} behind {first!r}: turn them round."
            )
    return ScoreClasses(tuple(steps), rest)
