"""Pairs in few words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from openchat_local.finetune.evaluation.compare.pairs import Answer, Pair, pair_up
from openchat_local.finetune.evaluation.compare.prompt_rows import Prompt
from openchat_local.models.conversation import Message

IDENTITIES = "a" * 64, "b" * 64

MakePairs = Callable[..., list[Pair]]


def prompts(count: int, category: str = "") -> list[Prompt]:
    return [
        Prompt(line, "", category, (Message("user", f"question {line}"),))
        for line in range(1, count + 1)
    ]


@pytest.fixture
def make_pairs() -> MakePairs:
    """Pairs of the texts of A and of B, one a prompt; the first tokens are words."""

    def make(a: list[str], b: list[str], seed: int = 0, category: str = "") -> list[Pair]:
        asked = prompts(len(a), category)
        said_a, said_b = (
            {
                one.digest: (Answer(text, len(text.split())),)
                for one, text in zip(asked, texts, strict=True)
            }
            for texts in (a, b)
        )
        return pair_up(asked, said_a, said_b, IDENTITIES, seed)

    return make
