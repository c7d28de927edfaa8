"""Whether an adapter made the model forget: by questions of a suite, else by everyday prompts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from openchat_local.app.evaluations import evaluations_dir
from openchat_local.app.learning.findings import Compared, Questions, Replies
from openchat_local.app.suites import SUITES, library
from openchat_local.finetune.evaluation.asking import ask_all
from openchat_local.finetune.evaluation.contender import Contender
from openchat_local.finetune.evaluation.losses.figures import change_between
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    Engine,
    GenerationRequest,
    Sampling,
    ScoreRequest,
)
from openchat_local.models.errors import EngineError

LEAST, MOST = 30, 100  # questions of a suite
TOKENS_A_QUESTION = 300  # with its options, about
REPLY_TOKENS = 48
AT_ONCE = 4  # prompts that are asked together, and given up together
_BASE = AdapterChoice(None)
_END = re.compile(r"[.!?。！？\n]")

Progress = Callable[[float], None]
"""How much is done, 0 to 1. What it raises ends the check."""


def installed_suite() -> str | None:
    """The suite that would be asked: the first of those that were fetched."""
    kept = library()
    return next((name for name in SUITES if kept.is_kept(name)), None)


def by_questions(
    suite: str,
    base: Contender,
    adapted: Contender,
    engine: Engine,
    progress: Progress,
    *,
    seconds: float,
    tokens_per_second: float | None,
) -> Questions:
    """As many questions of a suite as are likely answered within `seconds`, some of each of its
    sets, by the likelihood of their options.

    Raises SuiteError, DataError, EngineError, EngineDied or RowsUnwritten.
    """
    from openchat_local.finetune.evaluation.choice.judging import pooled, standings
    from openchat_local.finetune.evaluation.choice.measuring import Method
    from openchat_local.finetune.evaluation.choice.reading import QuestionSet, read_sets
    from openchat_local.finetune.evaluation.choice.session import find_all

    speed = tokens_per_second or 0.0
    count = min(MOST, max(LEAST, int(seconds * speed / (2 * TOKENS_A_QUESTION))))
    sets = read_sets(library().files(suite), skip_bad=True, limit=count)
    mixed = chain.from_iterable(zip_longest(*(one.questions for one in sets)))
    asked = tuple(question for question in mixed if question is not None)[:count]
    method = Method()
    # What a set is called does not matter to one that is all of them.
    together = [QuestionSet(suite, Path(suite), asked)]
    findings = find_all(
        [base, adapted], together, method, lambda _: engine, evaluations_dir(),
        context=engine.load().context,
        progress=lambda _, share: progress(share),
    )  # fmt: skip
    judged = pooled(findings.judged(together), suite)
    before, after = standings(judged, base.label)
    lost, won = (0, 0) if after.change is None else (after.change.lost, after.change.won)
    return Questions(suite, len(judged.questions), before.acc.right, after.acc.right, lost, won)


def everyday_prompts() -> list[str]:
    """Twenty that are about nothing in particular."""
    return Path(__file__).with_name("everyday.txt").read_text("utf-8").splitlines()


def by_replies(
    engine: Engine,
    choice: AdapterChoice,
    progress: Progress,
    *,
    seconds: float,
    prompts: Sequence[str] | None = None,
) -> Replies | None:
    """What the base answers greedily to everyday prompts, and what the adapter makes of that; of
    as many prompts as fit into `seconds`, some at least. None where the base says nothing.

    Raises EngineError or EngineDied.
    """
    asked = everyday_prompts() if prompts is None else prompts
    started = time.monotonic()
    before: list[float] = []
    after: list[float] = []
    tokens: list[int] = []
    same = 0
    for start in range(0, len(asked), AT_ONCE):
        some = [Conversation((Message("user", text),)) for text in asked[start : start + AT_ONCE]]
        look = partial(progress, start / len(asked))
        replies = _replies(engine, some, _BASE, look)
        others = _replies(engine, some, choice, look)
        said = [number for number, reply in enumerate(replies) if reply.strip()]
        losses = [_losses(engine, some, replies, said, one) for one in (_BASE, choice)]
        for number in said:
            same += first_sentence(replies[number]) == first_sentence(others[number])
            (nats, count), (others_nats, _) = losses[0][number], losses[1][number]
            before.append(nats)
            after.append(others_nats)
            tokens.append(count)
        progress(min(1.0, (start + len(some)) / len(asked)))
        if time.monotonic() - started > seconds:
            break
    if not tokens:
        return None
    counts = np.array(tokens, np.float64)
    change = change_between("", np.array(before), np.array(after), counts)
    total = float(counts.sum())
    loss = Compared(
        len(tokens), int(total), sum(before) / total, sum(after) / total, change.interval
    )
    return Replies(len(tokens), same, loss)


def first_sentence(reply: str) -> str:
    """How a reply begins: its words up to the first full stop or line end, in small letters."""
    return " ".join(_END.split(reply.strip(), maxsplit=1)[0].casefold().split())


def _replies(
    engine: Engine,
    conversations: Sequence[Conversation],
    choice: AdapterChoice,
    look: Callable[[], None],
) -> list[str]:
    """The greedy reply to each; "" where there is none."""
    sampling = Sampling(temperature=0.0, max_tokens=REPLY_TOKENS)
    # Drafts depend on the clock, and on a quantised model a token may depend on them.
    requests = [
        GenerationRequest(one, sampling, adapter=choice, speculate=False) for one in conversations
    ]
    found = [""] * len(requests)
    for answer in ask_all(engine, requests):
        look()
        if answer.error is not None:
            raise EngineError(answer.error)
        found[answer.index] = answer.text
    return found


def _losses(
    engine: Engine,
    conversations: Sequence[Conversation],
    replies: Sequence[str],
    said: Sequence[int],
    choice: AdapterChoice,
) -> dict[int, tuple[float, int]]:
    """Of each that was said: the nats of the whole reply, and its tokens."""
    requests = [
        ScoreRequest(conversations[number], replies[number], adapter=choice) for number in said
    ]
    return {
        said[score.index]: (-score.log_probability, len(score.ids))
        for score in engine.score(requests)
    }
