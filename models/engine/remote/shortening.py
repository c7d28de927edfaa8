"""A conversation that a server found too long, without its oldest turns."""

from __future__ import annotations

from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.protocol import GenerationRequest
from openchat_local.models.errors import ContextOverflow

_SHARE = 4  # a quarter of what is there goes at a time


def shorter(request: GenerationRequest, before: Conversation, said: str) -> Conversation:
    """`before` without the oldest of its turns, up to a user's: the system prompt and the last
    exchange stay, as in `context_window.fit`.

    Raises ContextOverflow with what the server `said`, where nothing may be left out.
    """
    turns = before.messages
    first = 1 if turns and turns[0].role == "system" else 0
    starts = [n for n, turn in enumerate(turns) if turn.role == "user" and n > first]
    if request.overflow == "refuse" or not starts:
        raise ContextOverflow(said)
    wanted = first + max(1, (len(turns) - first) // _SHARE)
    start = next((n for n in starts if n >= wanted), starts[-1])
    return Conversation((*turns[:first], *turns[start:]), before.condition)
