"""A prompt becomes a reply: what the window and `ask` have in common.

The prompt is on disk before inference starts, and the reply is never more than half a
second ahead of what is on disk, whoever dies: the engine, this process, or the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from openchat_local.app.paths import data_home
from openchat_local.app.replies.prompt import Prompted, prompted
from openchat_local.app.replies.remote import refuse_impossible, refuse_private
from openchat_local.app.settings.who_answers import condition_in_force
from openchat_local.models.conversation import Conversation, SampledIds
from openchat_local.models.engine.context_window import Overflow, surely_fits
from openchat_local.models.engine.protocol import (
    Engine,
    Finished,
    GenerationEvent,
    GenerationRequest,
    LoadedModel,
    PromptFitted,
    Sampling,
    TextDelta,
)
from openchat_local.models.errors import ConnectionLost, EngineDied, OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import ChatStore, ReplyEnd, StoredMessage

FLUSH_SECONDS = 0.4


def send_prompt(
    store: ChatStore, chat_id: str, text: str, instead_of: StoredMessage | None = None
) -> StoredMessage:
    """Append a user turn to the chat's shown branch, or put it beside an earlier prompt whose
    new version it is; it is on disk when this returns."""
    if instead_of is not None:
        return store.add_message(chat_id, instead_of.parent_id, "user", text)
    return store.add_message(chat_id, store.chat(chat_id).leaf_id, "user", text)


def refuse_if_too_long(
    engine: Engine, conversation: Conversation, sampling: Sampling, overflow: Overflow
) -> None:
    """Raise DoesNotFit before a prompt is stored that no reply could follow.

    The engine is asked only where the size of the texts leaves a doubt: as a rule a
    conversation goes to it once, with the request for the reply.
    """
    if not surely_fits(conversation, engine.load().context, overflow):
        engine.fit(GenerationRequest(conversation, sampling, overflow=overflow))


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
    answers; or beside the reply `continues`, as a version that begins with its text.

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
    from openchat_local.app.chats.thoughts import as_written

    chat = store.chat(chat_id)
    upto = place.continues or place.under
    branch = store.path_to(upto) if upto else []
    begun = branch[-1].content if place.continues else ""
    loaded = engine.load()
    prompt = prompted(chat, branch, loaded=loaded)
    refuse_private(loaded.remote, private=chat.private)
    refuse_impossible(loaded.remote, chat.condition, continues=bool(begun))
    drawn = sampling.seed is None
    # A reply can be had again only if its seed is known; from another machine not even then.
    if drawn and loaded.remote is None:
        sampling = replace(sampling, seed=random_seed())
    reply = store.begin_reply(
        chat.id,
        branch[-1].parent_id if place.continues else place.under,
        model=loaded.name,
        adapter=loaded.adapter.name if loaded.adapter else None,
        template=loaded.template,
        condition=condition_in_force(chat.condition, loaded),
        sampling=as_written(sampling, loaded.thoughts),
    )
    request = GenerationRequest(
        prompt.conversation,
        sampling,
        chat_key=None if chat.private else chat.id,
        update_interval=update_interval,
        continues=bool(begun),
        seed_drawn=drawn,
        overflow=overflow,
    )
    reply = replace(reply, content=begun)
    yield from recorded(store, engine, reply, prompt, request, loaded)


def recorded(
    store: ChatStore,
    engine: Engine,
    reply: StoredMessage,
    prompt: Prompted,
    request: GenerationRequest,
    loaded: LoadedModel,
) -> Generator[StreamEvent, None, None]:
    """Have `request`, which was made of `prompt`, answered into the row of `reply`, as
    `stream_reply` says. `reply` holds what a continued one begins with; `loaded` is the
    engine's model. Training stands still for it, unless another machine does the work."""
    from openchat_local.app.chats import ChatStoreError
    from openchat_local.finetune.run.giving_way import replying

    record = _Record(store, reply.id, reply.content)
    try:
        yield Begun(reply)
        request = replace(request, likely=_likely(store, reply, reply.content))
        elsewhere = loaded.remote is not None and loaded.remote.leaves
        giving_way = nullcontext() if elsewhere else replying(data_home())
        with giving_way, closing(engine.generate(request)) as events:
            for event in events:
                record.take(event)
                if isinstance(event, PromptFitted) and event.left_out:
                    yield Shortened(prompt.first_seen(event.left_out), loaded.context)
                yield event
    except (GeneratorExit, KeyboardInterrupt):
        record.reason = "cancelled"
        raise
    except (EngineDied, ConnectionLost):
        record.reason = "engine died"
        raise
    except ChatStoreError:
        raise
    except OpenChatError:  # a TemplateError too: the conversation cannot be written
        record.reason = "refused"
        raise
    finally:
        record.close()


def _likely(store: ChatStore, reply: StoredMessage, begun: str) -> str:
    """What the reply may repeat though its branch does not have it: the last reply that it
    takes the place of, beside it or under another version of its prompt."""
    beside = store.siblings(reply.id)
    if len(beside) == 1 and reply.parent_id is not None:
        prompts = store.siblings(reply.parent_id)
        beside = [answer for prompt in prompts for answer in store.children(prompt.id)]
    known = [other.content for other in beside if other.id != reply.id]
    return next((text for text in reversed(known) if not begun.startswith(text)), "")


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
            ids = event.token_ids  # none of a remote engine
            sampled = SampledIds.of(ids, event.vocabulary) if ids else None
            self._close(event.reason, asdict(event.usage), sampled)
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
        self, reason: ReplyEnd, usage: dict[str, float] | None, sampled: SampledIds | None
    ) -> None:
        self._closed = True
        self._store.finish_reply(self._id, self._text, reason, usage=usage, sampled=sampled)


def limit_sentence(finished: Finished, goes_on: str) -> str | None:
    """What the user is told of a reply that its limit of tokens ended, and `goes_on`: how it
    can be continued. None for another end, and where the engine says why itself."""
    if finished.reason != "length" or finished.note is not None:
        return None
    usage = finished.usage
    still = ", still thinking" if usage.reasoning_tokens == usage.generated_tokens else ""
    return f"The reply stopped at {usage.generated_tokens:,} tokens{still}: {goes_on}."


def random_seed() -> int:
    """One for a reply that nobody asked a seed for."""
    import secrets

    return secrets.randbits(32)
