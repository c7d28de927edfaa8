"""One prompt answered twice at once, by two who are to be compared blind."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from openchat_local.app.replies.prompt import Prompted, prompted
from openchat_local.app.replies.remote import refuse_private
from openchat_local.app.replies.stream import StreamEvent, random_seed, recorded
from openchat_local.models.engine.protocol import AdapterChoice, GenerationRequest

if TYPE_CHECKING:
    from openchat_local.app.chats import ChatStore, Side, StoredMessage, Vote
    from openchat_local.models.engine.context_window import Overflow
    from openchat_local.models.engine.protocol import Engine, LoadedModel, Sampling
    from openchat_local.models.engine.remote.options import RemoteOptions


@dataclass(frozen=True, slots=True)
class Answering:
    """One who answers: what the engine needs to know, and what the vote will say. `remote` is how
    a remote engine is asked, where one is."""

    side: Side
    choice: AdapterChoice
    remote: RemoteOptions | None = None


@dataclass(frozen=True, slots=True)
class Half:
    """A reply of a pair before its first word."""

    engine: Engine
    reply: StoredMessage
    prompt: Prompted
    request: GenerationRequest
    loaded: LoadedModel


@dataclass(frozen=True, slots=True)
class BegunPair:
    """A pair whose rows are on disk, in the order in which it is shown."""

    vote: Vote
    halves: tuple[Half, Half]


def begin_pair(
    store: ChatStore,
    engines: tuple[Engine, Engine],
    prompt_id: str,
    both: tuple[Answering, Answering],
    sampling: Sampling,
    *,
    overflow: Overflow = "drop-oldest",
    update_interval: float = 0.1,
) -> BegunPair:
    """Two replies to a prompt by these `engines`, which may be one, with the same sampling and the
    same seed, each with its true origin on its row. Blocks until the models are loaded. Raises
    OpenChatError."""
    from openchat_local.app.chats.thoughts import as_written

    branch = store.path_to(prompt_id)
    chat = store.chat(branch[-1].chat_id)
    loaded = engines[0].load(), engines[1].load()
    for each in loaded:
        refuse_private(each.remote, private=chat.private)
    of = next((each for each in loaded if each.remote is None), loaded[0])
    drawn = sampling.seed is None
    if drawn:
        sampling = replace(sampling, seed=random_seed())
    vote, *replies = store.begin_pair(
        chat.id,
        prompt_id,
        (both[0].side, both[1].side),
        template=of.template,
        sampling=as_written(sampling, next(filter(None, (each.thoughts for each in loaded)), None)),
    )

    def half(number: int) -> Half:
        reply, who = replies[number], both[number]
        prompt = prompted(chat, branch, loaded=loaded[number])
        own = replace(prompt.conversation, condition=who.side.condition)
        request = GenerationRequest(
            own,
            sampling,
            chat_key=None if chat.private else chat.id,
            update_interval=update_interval,
            adapter=who.choice,
            seed_drawn=drawn,
            overflow=overflow,
        )
        return Half(engines[number], reply, prompt, request, loaded[number])

    return BegunPair(vote, (half(0), half(1)))


def stream_half(store: ChatStore, half: Half) -> Generator[StreamEvent, None, None]:
    """Answer into one row of a pair, as `stream_reply` does; the other half is for another
    thread. Raises OpenChatError, after the row was closed."""
    from openchat_local.app.chats import ChatNotFound, MessageNotFound

    try:
        yield from recorded(store, half.engine, half.reply, half.prompt, half.request, half.loaded)
    except (ChatNotFound, MessageNotFound):
        half.engine.forget(half.reply.chat_id)
        raise
