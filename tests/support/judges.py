"""Judges that say what they are told to: engines with canned replies and probabilities."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Generator, Mapping, Sequence

from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.protocol import (
    Engine,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Heartbeat,
    Score,
    ScoreRequest,
    TextDelta,
    Usage,
)

Shown = Mapping[str, str]
"""What a judge is shown, by the names of its places."""

NO_USAGE = Usage(0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0)


def shown(conversation: Conversation) -> dict[str, str]:
    """The texts between the marks of a judge's prompt; the last of a name."""
    found = re.findall(
        r"^<<<([^\n]+) ([0-9a-f]+)\n(.*?)\n\2>>>$",
        conversation.messages[-1].content,
        re.DOTALL | re.MULTILINE,
    )
    return {name: text for name, _, text in found}


def verdict(value: object, why: str = "so it is") -> str:
    """A written judgement of either kind."""
    field = "grade" if isinstance(value, int) else "verdict"
    return json.dumps({"why": why, field: value})


class CannedJudge(Engine):
    """`says` makes a reply of what is shown, None to think for ever; `likes` the probability of
    every reply that is scored, one token a character."""

    def __init__(
        self,
        says: Callable[[Shown], str | None] = lambda _: "",
        likes: Callable[[Shown, str], float] = lambda _, __: 0.0,
        reason: FinishReason = "stop",
    ) -> None:
        self._says, self._likes, self._reason = says, likes, reason
        self.asked: list[GenerationRequest] = []
        self.scored: list[ScoreRequest] = []

    def generate(self, request: GenerationRequest) -> Generator[GenerationEvent, None, None]:
        self.asked.append(request)
        reply = self._says(shown(request.conversation))
        while reply is None:
            yield Heartbeat()
        for half in (reply[: len(reply) // 2], reply[len(reply) // 2 :]):
            yield TextDelta(half, 1)
        yield Finished(self._reason, NO_USAGE, ())

    def score(self, requests: Sequence[ScoreRequest]) -> Generator[Score, None, None]:
        self.scored += requests
        for index in reversed(range(len(requests))):  # any order is allowed
            prompt, text = requests[index].prompt, requests[index].continuation
            assert isinstance(prompt, Conversation)
            assert isinstance(text, str)
            likely = self._likes(shown(prompt), text)
            ids = tuple(map(ord, text))
            each = (math.log(likely) if likely else -math.inf) / len(ids)
            yield Score(index, ids, (each,) * len(ids), (False,) * len(ids), (), 1, 0)
