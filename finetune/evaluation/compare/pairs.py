"""Two answers to a prompt, in an order that tells nothing, and what is said of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from openchat_local.finetune.evaluation.compare.prompt_rows import Prompt

Vote = Literal["first", "second", "tie", "both bad", "skip"]
Outcome = Literal["a", "b", "tie", "both bad", "skip"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a contender said, in tokens of its own vocabulary; `cut` where it was not done yet."""

    text: str
    tokens: int
    cut: bool = False


Dialogue = tuple[Answer, ...]  # an answer to each turn of the user's


@dataclass(frozen=True, slots=True)
class Pair:
    """The dialogues of two contenders about one prompt, as a judge sees them: `first` is A's
    unless they are `swapped`. `digest` tells this pair, its texts included, from any other."""

    prompt: Prompt
    first: Dialogue
    second: Dialogue
    swapped: bool
    digest: str

    @property
    def a(self) -> Dialogue:
        return self.second if self.swapped else self.first

    @property
    def b(self) -> Dialogue:
        return self.first if self.swapped else self.second

    @property
    def same(self) -> bool:
        """Whether there is nothing to choose: every answer is the same, letter by letter."""
        return [one.text.strip() for one in self.first] == [one.text.strip() for one in self.second]

    def outcome(self, vote: Vote) -> Outcome:
        """What a vote on the two places says of the two contenders."""
        if vote == "first":
            return "b" if self.swapped else "a"
        if vote == "second":
            return "a" if self.swapped else "b"
        return vote


def pair_up(
    prompts: Sequence[Prompt],
    a: Mapping[str, Dialogue],
    b: Mapping[str, Dialogue],
    identities: tuple[str, str],
    seed: int = 0,
) -> list[Pair]:
    """A pair for each prompt that both have answered; `a` and `b` are by `Prompt.digest`.

    Which contender is shown first is drawn anew for every prompt, by a hash of the seed, the
    prompt and both `identities`: the same for the same comparison, whichever is called A.
    """
    pairs = []
    for prompt in prompts:
        if prompt.digest not in a or prompt.digest not in b:
            continue
        swapped = _lesser_first(seed, prompt, identities) != (identities[0] <= identities[1])
        both = a[prompt.digest], b[prompt.digest]
        first, second = both[::-1] if swapped else both
        pairs.append(Pair(prompt, first, second, swapped, _digest(prompt, first, second)))
    return pairs


def _lesser_first(seed: int, prompt: Prompt, identities: tuple[str, str]) -> bool:
    """Whether the contender whose identity sorts first is shown first."""
    drawn = json.dumps([seed, prompt.digest, *sorted(identities)])
    return hashlib.sha256(drawn.encode()).digest()[0] % 2 == 0


def _digest(prompt: Prompt, first: Dialogue, second: Dialogue) -> str:
    texts = [prompt.digest, [one.text for one in first], [one.text for one in second]]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:32]
