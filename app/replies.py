"""A prompt becomes a reply: what the TUI, `ask` and the server have in common.

The prompt is on disk before inference starts, and the reply is never more than half a
second ahead of what is on disk, whoever dies: the engine, this process, or the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from openchat_local.app.context import Fitted, Overflow, fit
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import (
    Engine,
    Finished,
    GenerationEvent,
    GenerationRequest,
    Sampling,
    TextDelta,
)
from openchat_local.models.errors import EngineDied, OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat, ChatStore, ReplyEnd, StoredMessage

FLUSH_SECONDS = 0.4


def send_prompt(
    store: ChatStore, chat_id: str, text: str, instead_of: StoredMessage | None = None
) -> StoredMessage:
    """Append a user turn to the chat's shown branch, or put it beside an earlier prompt whose
    new version it is; it is on disk when this returns."""
    if instead_of is not None:
        return store.add_message(chat_id, instead_of.parent_id, "user", text)
    return store.add_message(chat_id, store.chat(chat_id).leaf_id, "user", text)


@dataclass(frozen=True, slots=True)
class Prompted:
    """A branch as the engine gets it. `starts` has, for every turn of the conversation, the
    number of the message of the branch that it begins with: -1 for the chat's system prompt,
    and for an unsent prompt as many as there are messages."""

    conversation: Conversation
    starts: tuple[int, ...]

    def first_seen(self, fitted: Fitted) -> int:
        """The number of the first message of the branch that the model still sees."""
        if not fitted.left_out:
            return 0
        return self.starts[fitted.left_out + (self.conversation.messages[0].role == "system")]


def conversation_of(store: ChatStore, chat: Chat, unsent: str = "") -> Conversation:
    """The chat's shown branch as the engine gets it, with `unsent` text as a last user turn."""
    return prompted(chat, store.branch(chat.id), unsent).conversation


def unsent_prompt(
    store: ChatStore, chat_id: str, unsent: str, instead_of: StoredMessage | None = None
) -> Prompted:
    """The shown branch with an unsent prompt at its end or, as `send_prompt` would put it,
    beside an earlier one."""
    branch = store.branch(chat_id)
    if instead_of is not None:
        parent = instead_of.parent_id
        branch = store.path_to(parent) if parent is not None else []
    return prompted(store.chat(chat_id), branch, unsent)


def prompted(chat: Chat, branch: Sequence[StoredMessage], unsent: str = "") -> Prompted:
    """A branch of the chat as the engine gets it, with `unsent` text as a last user turn.

    Replies that ended before their first word are left out, and so are prompts that were
    only ever refused, once there is a later one: one that is too long would be in the way of
    all that follow. User turns that come to lie side by side become one, since many
    templates insist on alternating roles.
    """
    turns: list[tuple[int, Message]] = []
    if chat.system_prompt:
        turns.append((-1, Message("system", chat.system_prompt)))
    exchanges = _exchanges(branch)
    number = 0
    for index, messages in enumerate(exchanges):
        left_out = _was_refused(messages) and (unsent or index + 1 < len(exchanges))
        for message in messages:
            if not left_out and (message.role != "assistant" or message.content):
                turns.append((number, Message(message.role, message.content)))
            number += 1
    if unsent:
        turns.append((number, Message("user", unsent)))
    joined = list(_joined(turns))
    conversation = Conversation(tuple(turn for _, turn in joined), chat.condition)
    return Prompted(conversation, tuple(start for start, _ in joined))


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


@dataclass(frozen=True, slots=True)
class Begun:
    """The reply has its row. `message` holds what a continued reply begins with."""

    message: StoredMessage


@dataclass(frozen=True, slots=True)
class Shortened:
    """The first `messages` messages of the branch do not fit into the context any more: the
    model does not see them."""

    messages: int
    context: int

    def sentence(self) -> str:
        """What the user is told."""
        few = "The first message does" if self.messages == 1 else None
        return (
            f"{few or f'The first {self.messages:,} messages do'} not fit into the context of "
            f"{self.context:,} tokens any more: the model does not see "
            f"{'it' if few else 'them'} (context_overflow = drop-oldest)."
        )


StreamEvent = GenerationEvent | Begun | Shortened


@dataclass(frozen=True, slots=True)
class ReplyPlace:
    """Where in the tree a reply goes: under the message `under`, as the newest of its
    answers; or beside the reply `continues`, whose text it begins with and goes on from.

    A continued reply is a new row: the one that was cut stays as it is, with its figures.
    """

    under: str | None = None
    continues: str | None = None


def stream_reply(
    store: ChatStore,
    engine: Engine,
    chat_id: str,
    sampling: Sampling,
    *,
    place: ReplyPlace | None = None,
    overflow: Overflow = "drop-oldest",
    update_interval: float = 0.1,
) -> Generator[StreamEvent, None, None]:
    """Answer the chat's last prompt, or what `place` says, storing the reply as it comes.

    The first event is `Begun`; `Shortened` follows if the chat outgrew the context. When an
    event arrives here, its text is on disk or will be within half a second; with
    `Finished` the reply is closed. Closing the generator early cancels the reply and keeps
    what came. Raises OpenChatError, after the reply was closed with what there is: the
    engine's, or ChatStoreError. When the chat has been deleted meanwhile, the engine
    forgets it.
    """
    from openchat_local.app.chats import ChatNotFound, MessageNotFound

    try:
        if place is None:
            place = ReplyPlace(under=store.chat(chat_id).leaf_id)
        yield from _streamed(store, engine, chat_id, sampling, place, overflow, update_interval)
    except (ChatNotFound, MessageNotFound):
        engine.forget(chat_id)
        raise


def _streamed(
    store: ChatStore,
    engine: Engine,
    chat_id: str,
    sampling: Sampling,
    place: ReplyPlace,
    overflow: Overflow,
    update_interval: float,
) -> Generator[StreamEvent, None, None]:
    from openchat_local.app.chats import ChatStoreError

    chat = store.chat(chat_id)
    upto = place.continues or place.under
    branch = store.path_to(upto) if upto else []
    begun = branch[-1].content if place.continues else ""
    prompt = prompted(chat, branch)
    loaded = engine.load()
    if sampling.seed is None:  # a reply can be had again only if its seed is known
        sampling = replace(sampling, seed=_random_seed())
    reply = store.begin_reply(
        chat.id,
        branch[-1].parent_id if place.continues else place.under,
        model=loaded.name,
        adapter=loaded.adapter.name if loaded.adapter else None,
        template=loaded.template,
        condition=loaded.default_condition if chat.condition is None else chat.condition,
        sampling=asdict(sampling),
    )
    record = _Record(store, reply.id, begun)
    try:
        yield Begun(replace(reply, content=begun))
        fitted = fit(
            prompt.conversation, loaded.context, engine.count_tokens, overflow, sampling.max_tokens
        )
        if fitted.left_out:
            yield Shortened(prompt.first_seen(fitted), loaded.context)
        request = GenerationRequest(
            fitted.conversation,
            sampling,
            chat_key=None if chat.private else chat.id,
            update_interval=update_interval,
            continues=bool(begun),
        )
        with closing(engine.generate(request)) as events:
            for event in events:
                record.take(event)
                yield event
    except (GeneratorExit, KeyboardInterrupt):
        record.reason = "cancelled"
        raise
    except EngineDied:
        record.reason = "engine died"
        raise
    except ChatStoreError:
        raise
    except OpenChatError:  # a TemplateError too: the conversation cannot be written
        record.reason = "refused"
        raise
    finally:
        record.close()


class _Record:
    """The reply's row while it is being written.

    What cannot be saved now (the disk is full) is kept and tried again with the next flush,
    and told if it still cannot be saved in the end.
    """

    def __init__(self, store: ChatStore, message_id: str, begun: str = "") -> None:
        self._store = store
        self._id = message_id
        self._text = begun
        self._flushed = 0.0 if begun else time.monotonic()
        self._dirty = bool(begun)
        self._closed = False
        self.reason: ReplyEnd = "interrupted"

    def take(self, event: GenerationEvent) -> None:
        if isinstance(event, TextDelta):
            self._text += event.text
            self._dirty = True
        elif isinstance(event, Finished):
            self._close(event.reason, asdict(event.usage), event.token_ids)
            return
        # The engine's heartbeat brings us here twice a second when no text does.
        now = time.monotonic()
        if self._dirty and now - self._flushed >= FLUSH_SECONDS:
            self._flushed, self._dirty = now, not self._flush()

    def _flush(self) -> bool:
        from openchat_local.app.chats import ChatStoreError, MessageNotFound

        try:
            self._store.flush_reply(self._id, self._text)
        except MessageNotFound:  # the chat was deleted: there is nothing to write for
            raise
        except ChatStoreError:
            return False
        return True

    def close(self) -> None:
        if not self._closed:
            self._close(self.reason, None, None)

    def _close(
        self, reason: ReplyEnd, usage: dict[str, float] | None, token_ids: tuple[int, ...] | None
    ) -> None:
        self._closed = True
        self._store.finish_reply(self._id, self._text, reason, usage=usage, token_ids=token_ids)


def _random_seed() -> int:
    import secrets

    return secrets.randbits(32)
