"""A branch of a chat as the engine gets it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from openchat_local.models.conversation import Conversation, Message

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat, ChatStore, StoredMessage
    from openchat_local.models.engine.protocol import LoadedModel


@dataclass(frozen=True, slots=True)
class Prompted:
    """A branch as the engine gets it. `starts` has, for every turn of the conversation, the
    number of the message of the branch that it begins with: -1 for the chat's system prompt,
    and for an unsent prompt as many as there are messages."""

    conversation: Conversation
    starts: tuple[int, ...]

    def first_seen(self, left_out: int) -> int:
        """The number of the first message of the branch that the model still sees, where the
        engine has left so many turns out."""
        if not left_out:
            return 0
        return self.starts[left_out + (self.conversation.messages[0].role == "system")]


def unsent_prompt(
    store: ChatStore,
    chat_id: str,
    unsent: str,
    instead_of: StoredMessage | None = None,
    loaded: LoadedModel | None = None,
) -> Prompted:
    """The shown branch with an unsent prompt at its end or, as `send_prompt` would put it,
    beside an earlier one, for the model that is `loaded`."""
    branch = store.branch(chat_id)
    if instead_of is not None:
        parent = instead_of.parent_id
        branch = store.path_to(parent) if parent is not None else []
    return prompted(store.chat(chat_id), branch, unsent, loaded)


def prompted(
    chat: Chat,
    branch: Sequence[StoredMessage],
    unsent: str = "",
    loaded: LoadedModel | None = None,
) -> Prompted:
    """A branch of the chat as the engine gets it, with `unsent` text as a last user turn.

    Replies that ended before their first word are left out, and so are prompts that were
    only ever refused, once there is a later one: one that is too long would be in the way of
    all that follow. User turns that come to lie side by side become one, since many
    templates insist on alternating roles.

    What a reply thought goes to its own kind of model, whose template knows what to do with it:
    one that is `loaded` and marks thoughts in another way, or has none, gets the answer. (A reply
    that is gone on with, at the end of the branch, stays whole.)
    """
    turns: list[tuple[int, Message]] = []
    if chat.system_prompt:
        turns.append((-1, Message("system", chat.system_prompt)))
    exchanges = _exchanges(branch)
    number = 0
    for index, messages in enumerate(exchanges):
        left_out = _was_refused(messages) and (unsent or index + 1 < len(exchanges))
        for message in messages:
            said = message.content
            if loaded is not None and (message is not branch[-1] or unsent):
                said = _understood(message, loaded)
            if not left_out and (message.role != "assistant" or said):
                sampled = message.sampled if said is message.content else None
                turns.append((number, Message(message.role, said, sampled)))
            number += 1
    if unsent:
        turns.append((number, Message("user", unsent)))
    joined = list(_joined(turns))
    conversation = Conversation(tuple(turn for _, turn in joined), chat.condition)
    return Prompted(conversation, tuple(start for start, _ in joined))


def _understood(message: StoredMessage, loaded: LoadedModel) -> str:
    """What a message says to the model that is loaded."""
    from openchat_local.app.chats.thoughts import answer_of, marks_of

    if message.role != "assistant" or marks_of(message) == loaded.thoughts:
        return message.content
    answer = answer_of(message)
    return message.content if answer == message.content else answer


def _exchanges(branch: Sequence[StoredMessage]) -> list[list[StoredMessage]]:
    """The branch cut before each user turn."""
    exchanges: list[list[StoredMessage]] = []
    for message in branch:
        if message.role == "user" or not exchanges:
            exchanges.append([])
        exchanges[-1].append(message)
    return exchanges


def _was_refused(exchange: Sequence[StoredMessage]) -> bool:
    prompt, *rest = exchange
    return (
        prompt.role == "user"
        and bool(rest)
        and all(reply.finish_reason == "refused" and not reply.content for reply in rest)
    )


def _joined(turns: Sequence[tuple[int, Message]]) -> Iterator[tuple[int, Message]]:
    """The turns, with a blank line between what were two user turns in a row."""
    for role, run in groupby(turns, key=lambda turn: turn[1].role):
        if role == "user":
            same = list(run)
            yield same[0][0], Message("user", "\n\n".join(turn.content for _, turn in same))
        else:
            yield from run
