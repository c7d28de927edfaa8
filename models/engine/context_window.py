"""What of a conversation the model gets when not all of it fits into its context window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.errors import DoesNotFit

Overflow = Literal["drop-oldest", "refuse"]
"""What happens when a chat outgrows the context: its oldest turns are left out, or it ends."""

# The least part of the window that is kept free for the reply, if the prompt allows.
REPLY_SHARE = 4
# More than a template writes around a turn.
_TURN_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Fitted:
    """A conversation of `tokens` tokens, from which the first `left_out` turns after the
    system prompt are gone."""

    conversation: Conversation
    tokens: int
    left_out: int


def fit(
    conversation: Conversation,
    size: int,
    count: Callable[[Conversation], int],
    overflow: Overflow,
    reply_tokens: int | None = None,
) -> Fitted:
    """`conversation` as it goes to a model whose window holds `size` tokens.

    `count` gives a conversation's length in the model's tokens. The system prompt and the
    last exchange are never left out. A quarter of the window stays free for the reply, or
    `reply_tokens` if that is less, as far as the last exchange leaves room.

    Turns go in strides, not one by one: the same ones are then missing from the next few
    prompts too, and the engine's cache serves them. What goes depends on the conversation
    alone, so that the screen and the engine agree.

    Raises DoesNotFit: at once where `overflow` is "refuse", and where the last exchange
    alone is too long.
    """
    if overflow == "refuse":
        tokens = count(conversation)
        if tokens >= size:
            raise DoesNotFit(
                f"The chat is {tokens:,} tokens long with this prompt and the context holds "
                f"{size:,}: shorten the prompt, start a new chat, restart with a larger "
                "--context, or set context_overflow to drop-oldest.",
                tokens,
            )
        return Fitted(conversation, tokens, 0)
    limit = size - min(size // REPLY_SHARE, reply_tokens or size)
    first = 1 if conversation.messages[:1] and conversation.messages[0].role == "system" else 0
    cuts = _cuts(conversation.messages[first:], size)

    def cut(number: int) -> Fitted:
        kept = (*conversation.messages[:first], *conversation.messages[first + cuts[number] :])
        shorter = replace(conversation, messages=kept)
        return Fitted(shorter, count(shorter), cuts[number])

    return _longest(cut, len(cuts) - 1, limit, size)


def surely_fits(conversation: Conversation, size: int, overflow: Overflow) -> bool:
    """Whether `fit` need not be asked if it would refuse `conversation`: what has to stay is
    shorter in bytes than the window in tokens, and a token is a byte at the least.

    What a template writes around a turn is estimated, so that a model with a long text of its
    own may refuse it after all.
    """
    turns = conversation.messages
    if overflow == "drop-oldest":
        first = 1 if turns and turns[0].role == "system" else 0
        last = max((n for n, turn in enumerate(turns) if turn.role == "user"), default=first)
        turns = (*turns[:first], *turns[last:])
    sizes = (_TURN_TOKENS + len(turn.content.encode("utf-8", "replace")) for turn in turns)
    return _TURN_TOKENS + sum(sizes) < size


def _longest(cut: Callable[[int], Fitted], last: int, limit: int, size: int) -> Fitted:
    """The first cut within `limit`, looked for from the end: a chat may be a hundred times
    longer than what fits, and counting all of it would take seconds."""
    best = cut(last)
    if best.tokens >= size:
        raise DoesNotFit(
            f"This prompt alone is {best.tokens:,} tokens long with all that belongs to it and the "
            f"context holds {size:,}: shorten it, or restart with a larger --context.",
            best.tokens,
        )
    if best.tokens > limit:
        return best
    fits, step = last, 1
    exceeds = -1
    while fits > 0 and exceeds < 0:
        number = max(0, fits - step)
        tried = cut(number)
        if tried.tokens <= limit:
            best, fits, step = tried, number, step * 2
        else:
            exceeds = number
    while fits - exceeds > 1 and fits > 0:
        number = (fits + exceeds) // 2
        tried = cut(number)
        if tried.tokens <= limit:
            best, fits = tried, number
        else:
            exceeds = number
    return best


def _cuts(turns: Sequence[Message], size: int) -> list[int]:
    """The numbers of the turns that a shortened conversation may begin with: user turns, the
    first one after each stride of about a quarter of the window, and the last.

    A stride is as many bytes as the window has tokens: a token is about four of them.
    """
    cuts = [0]
    position, due = 0, size
    last = 0
    for number, turn in enumerate(turns):
        if turn.role == "user" and turn.result_of is None and number:
            last = number
            if position >= due:
                cuts.append(number)
                due = position - position % size + size
        position += len(turn.content.encode("utf-8", "replace"))
    if last > cuts[-1]:
        cuts.append(last)
    return cuts
