"""One reply after another from one context: reuse, prefill, decode."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.governor import Pace, ThreadGovernor
from openchat_local.models.engine.llamacpp import Aborted, Adapter, Context
from openchat_local.models.engine.protocol import (
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    PrefillProgress,
    TextDelta,
    Usage,
)
from openchat_local.models.engine.sampler import TokenSampler
from openchat_local.models.engine.speculation import RowCosts, Speculation
from openchat_local.models.engine.states import SavedState, StateStore
from openchat_local.models.engine.stops import StopBuffer
from openchat_local.models.errors import ContextOverflow
from openchat_local.models.memory import CPU_BATCH
from openchat_local.models.template import Rendered, Template
from openchat_local.models.template.vocabulary import ContentDecoder

# Restoring reads the whole state: below this many tokens a prefill is as quick.
RESTORE_GAIN = 64
# A prompt is decoded up to the next multiple of so many tokens, and on from there. A GPU wants
# more at a time, and stops between two chunks only.
CHUNK, GPU_CHUNK = CPU_BATCH, 256
# A state of fewer tokens is not worth its file.
SAVE_MINIMUM = 128
REMEMBERED_REPLIES = 512

Emit = Callable[[GenerationEvent], None]


@dataclass
class _Timing:
    started: float = field(default_factory=time.perf_counter)
    restore: float = 0.0
    prefill: float = 0.0
    first_token: float = 0.0
    decode: float = 0.0


@dataclass
class _Counts:
    prompt: int
    reused: int
    restored: int
    evaluated: int = 0
    generated: int = 0
    drafted: int = 0
    accepted: int = 0


class ReplyMemory:
    """The ids of recent replies as they were sampled, by their text.

    A sampled reply is often not what the tokenizer makes of its text. Rendering the next
    prompt with the sampled ids keeps the KV cache's prefix, and shows the model what it said.
    """

    def __init__(self) -> None:
        self._ids: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    def remember(self, text: str, ids: Sequence[int]) -> None:
        self._ids[text] = tuple(ids)
        self._ids.move_to_end(text)
        while len(self._ids) > REMEMBERED_REPLIES:
            self._ids.popitem(last=False)

    def lookup(self, message: Message) -> Sequence[int] | None:
        return self._ids.get(message.content) if message.role == "assistant" else None


class Generator:
    """Replies from `context` under `template`, keeping the KV cache between them.

    The same request with the same seed gives the same tokens again, whatever else the machine
    does meanwhile: prompts are cut into chunks by position alone, a chunk that is in the cache
    is used whole or decoded again, and the number of threads changes no bit. A prefix in the
    cache gives the very bits that decoding it afresh would give, up to the chunk in which its
    first reply begins: a reply's tokens were decoded one by one and stay as they are, which
    spares the next turn reading them again; afresh they would be read in chunks, and sums be
    rounded otherwise.
    """

    def __init__(
        self,
        context: Context,
        template: Template,
        states: StateStore | None,
        governor: ThreadGovernor | None = None,
        chunk: int = CHUNK,
    ) -> None:
        """Without a `governor` the number of threads stays what it is."""
        self.context = context
        self._chunk = chunk
        self._governor = governor
        self.vocabulary = context.model.vocabulary
        self.template = template
        self.states = states
        self.memory = ReplyMemory()
        self.adapter: str | None = None  # the name of the adapter in force
        self.owner: str | None = None  # the chat whose tokens the context holds
        self._replies: list[list[int]] = []  # the ids of its assistant turns
        self._unsaved = False
        self.costs = RowCosts()

    def _speculation(self, request: GenerationRequest, output: _Output) -> Speculation | None:
        """None where nothing is drafted: a seed of its own makes a reply that repeats bit for
        bit, and several rows round otherwise than one."""
        if not request.speculate or request.exact:
            return None
        likely = self.vocabulary.tokenize_content(request.likely) if request.likely else ()
        return Speculation(self.costs, self.context.tokens, begun=output.ids, likely=likely)

    def reply(self, request: GenerationRequest, emit: Emit) -> Finished:
        """Generate one reply; `emit` gets everything but the last event, which is returned.

        Raises ContextOverflow when the prompt leaves no room for a reply.
        """
        timing = _Timing()
        saved = self._saved_state(request.chat_key)
        rendered = self.template.render(
            request.conversation, continues=request.continues, content_ids=self.memory.lookup
        )
        ids = rendered.ids
        if len(ids) >= self.context.size:
            raise ContextOverflow(
                f"The conversation is {len(ids):,} tokens long and the context holds "
                f"{self.context.size:,}: start a new chat, or restart with a larger --context."
            )
        sampler = TokenSampler(self.context.model, request.sampling, self.template.stop_ids)
        try:
            restored = self._restore(request.chat_key, saved, ids, timing)
            reused = self._reuse(ids)
            self.owner, self._unsaved = request.chat_key, True
            self._replies = _assistant_ids(request.conversation, rendered)
            begun = self._replies.pop() if request.continues else []
            sampler.begin(begun)
            counts = _Counts(len(ids), reused, min(restored, reused))
            if not self._prefill(ids[reused:], emit, timing):
                counts.evaluated = len(self.context.tokens) - reused
                return self._finished("cancelled", counts, begun, timing, sampler)
            counts.evaluated = len(ids) - reused
            output = _Output(self.template.content_decoder(), request, begun, emit)
            return self._decode(request, sampler, output, counts, timing)
        finally:
            sampler.close()

    def _prefill(self, ids: Sequence[int], emit: Emit, timing: _Timing) -> bool:
        """Evaluate the prompt's new tokens; False when cancelled."""
        started = time.perf_counter()
        done, first = 0, len(self.context.tokens)
        try:
            while done < len(ids):
                if self.context.abort.is_set():
                    raise Aborted  # also where llama.cpp does not poll the flag itself
                # Where a chunk ends follows from the position and from nothing else.
                end = done + self._chunk - (first + done) % self._chunk
                # The last token is a chunk of its own, so that another reply to the same
                # prompt finds all the others in the cache.
                chunk = ids[done : min(end, max(done + 1, len(ids) - 1))]
                self.context.decode(chunk)
                self.context.wait()
                done += len(chunk)
                if done < len(ids):
                    emit(PrefillProgress(done, len(ids)))
        except Aborted:
            return False
        finally:
            timing.prefill = time.perf_counter() - started
        return True

    def _decode(
        self,
        request: GenerationRequest,
        sampler: TokenSampler,
        output: _Output,
        counts: _Counts,
        timing: _Timing,
    ) -> Finished:
        context, stop_ids = self.context, self.template.stop_ids
        limit = request.sampling.max_tokens
        reason: FinishReason = "length"
        note = None
        pace = Pace(self._governor, context.use_threads)
        speculation = self._speculation(request, output)
        # Of the last batch: the drafts whose rows were not looked at yet, the row that the next
        # token is drawn from, and how many of the cache's tokens are the reply's.
        drafts: list[int] = []
        row, kept = -1, len(context.tokens)
        rows, batch_started = 0, 0.0
        started = time.perf_counter()
        try:
            while limit is None or counts.generated < limit:
                token = sampler.sample(context, row)
                if counts.generated == 0:
                    timing.first_token = time.perf_counter() - timing.started
                elif rows:
                    self.costs.observe(rows, time.perf_counter() - batch_started)
                    rows = 0
                room = context.size - kept
                left = room if limit is None else min(room, limit - counts.generated - 1)
                forced = [] if token in stop_ids else sampler.forced(min(left, CHUNK - 1))
                tokens = [token, *forced]
                if self._feed(tokens, output, counts) or sampler.finished:
                    reason = "stop"
                    break
                if context.abort.is_set():
                    raise Aborted
                if len(tokens) > room:
                    note = (
                        f"The context of {context.size:,} tokens is full: start a new chat, "
                        "or restart with a larger --context."
                    )
                    break
                if speculation is not None:
                    speculation.follow(tokens)
                    agreed = _common_prefix(drafts, tokens)
                    speculation.accepted += agreed
                    kept += agreed
                    if agreed == len(tokens):
                        row += agreed
                        del drafts[:agreed]
                        continue
                    context.keep_prefix(kept)
                    tokens = tokens[agreed:]
                    most = left - len(forced)
                    if limit is not None:
                        most = min(most, limit - counts.generated - 1)
                    most = min(most, room - agreed - len(tokens))
                    drafts = speculation.draft(most, certain=len(tokens))
                batch_started, rows = time.perf_counter(), len(tokens) + len(drafts)
                context.decode([*tokens, *drafts], 1 + len(drafts))
                kept += len(tokens)
                row = len(tokens) - 1 if drafts else -1
                if len(tokens) > 1 or drafts:
                    pace.skip()
                else:
                    pace.token()
        except Aborted:
            reason = "cancelled"
        context.keep_prefix(kept)
        if speculation is not None:
            counts.drafted, counts.accepted = speculation.drafted, speculation.accepted
        timing.decode = time.perf_counter() - started
        text = output.finish(whole=reason == "stop")
        if not output.lacks_ids:
            self.memory.remember(text, output.ids)
            self._replies.append(output.ids)
        return self._finished(reason, counts, output.ids, timing, sampler, note)

    def _feed(self, tokens: Sequence[int], output: _Output, counts: _Counts) -> bool:
        """Count tokens and send their text; True where the reply ends among them."""
        for token in tokens:
            counts.generated += 1
            if token in self.template.stop_ids or output.feed(token):
                return True
        return False

    def _finished(
        self,
        reason: FinishReason,
        counts: _Counts,
        ids: Sequence[int],
        timing: _Timing,
        sampler: TokenSampler,
        note: str | None = None,
    ) -> Finished:
        note = " ".join(filter(None, (note, sampler.note))) or None
        usage = _usage(counts, timing)
        return Finished(reason, usage, tuple(ids), note, self.adapter, sampler.complete)

    def set_adapter(
        self, adapter: Adapter | None, name: str | None, scale: float, states: StateStore | None
    ) -> None:
        """Reply with this adapter, called `name`, from now on. Its KV states are in `states`;
        what the context held is no one's any more."""
        self.context.set_adapter(adapter, scale)
        self.adapter, self.states = name, states
        self.owner, self._unsaved = None, False
        self._replies = []

    def _reuse(self, ids: Sequence[int]) -> int:
        """Cut the cache to what it shares with `ids`, in whole chunks; how many tokens that is.

        The last token of the prompt is always evaluated, for its logits.
        """
        shared = min(_common_prefix(self.context.tokens, ids), len(ids) - 1)
        self.context.keep_prefix(self.context.whole_chunks(shared))
        return len(self.context.tokens)

    # KV states on disk

    def _saved_state(self, chat_key: str | None) -> SavedState | None:
        """The chat's state on disk, its replies remembered so that the prompt renders alike."""
        if self.states is None or chat_key is None or chat_key == self.owner:
            return None
        saved = self.states.find(chat_key)
        if saved is not None:
            for ids in saved.replies:
                decoder = self.template.content_decoder()
                text = "".join(map(decoder.feed, ids)) + decoder.finish()
                self.memory.remember(text, ids)
        return saved

    def _restore(
        self, chat_key: str | None, saved: SavedState | None, ids: Sequence[int], timing: _Timing
    ) -> int:
        """Load the state if it spares work; the number of tokens it brought."""
        if saved is None or chat_key is None or self.states is None:
            return 0
        gain = _common_prefix(saved.tokens, ids) - _common_prefix(self.context.tokens, ids)
        if gain < RESTORE_GAIN or len(saved.tokens) > self.context.size:
            return 0
        started = time.perf_counter()
        path = self.states.verified_path(chat_key, saved)
        loaded = path is not None and self.context.load_state(path, saved.tokens, saved.chunks)
        timing.restore = time.perf_counter() - started
        return len(saved.tokens) if loaded else 0

    def save(self, chat_key: str | None) -> bool:
        """Write the chat's KV state to disk, if the context holds it and it is worth it."""
        context = self.context
        if self.states is None or chat_key is None or chat_key != self.owner:
            return False
        if not self._unsaved or len(context.tokens) < SAVE_MINIMUM:
            return False
        saved = self.states.save(
            chat_key,
            list(context.tokens),
            [list(span) for span in context.chunks],
            self._replies,
            context.state_size(),
            context.save_state,
        )
        self._unsaved = not saved
        return saved

    def forget(self, chat_key: str) -> None:
        """Never write this chat's state again, and remove what is on disk."""
        if self.owner == chat_key:
            self.owner = None
        if self.states is not None:
            self.states.drop(chat_key)


class _Output:
    """Text on its way out: decoded to whole characters, searched for stop strings, batched.

    `begun` are the ids of a reply that is gone on from: they are not sent again.
    """

    def __init__(
        self, decoder: ContentDecoder, request: GenerationRequest, begun: Sequence[int], emit: Emit
    ) -> None:
        self.ids: list[int] = list(begun)
        self._decoder = decoder
        for id in begun:
            decoder.feed(id)
        self._stops = StopBuffer(request.sampling.stop)
        self._emit = emit
        self._interval = request.update_interval
        self._cut = False
        self._due = 0.0  # the first text goes out at once
        self._parts = [request.conversation.messages[-1].content] if begun else []
        self._pending: list[str] = []
        self._pending_tokens = 0

    def feed(self, token: int) -> bool:
        """Take a token; True when a stop string is complete."""
        self.ids.append(token)
        self._pending_tokens += 1
        self._take(self._stops.feed(self._decoder.feed(token)))
        if self._pending and time.perf_counter() >= self._due:
            self._flush()
        return self._stops.stopped

    def finish(self, *, whole: bool) -> str:
        """Send what is left; the whole text of the reply.

        A reply that was cut short (not `whole`) loses the character that it was cut in.
        """
        self._cut = not whole and self._decoder.in_mid_character
        if not self._stops.stopped:
            if not self._cut:
                self._take(self._stops.feed(self._decoder.finish()))
            self._take(self._stops.finish())
        self._flush()
        return "".join(self._parts)

    @property
    def lacks_ids(self) -> bool:
        """Whether the text lacks something that is among the ids: a stop string, or the
        beginning of a character."""
        return self._stops.stopped or self._cut

    def _take(self, text: str) -> None:
        if text:
            self._pending.append(text)

    def _flush(self) -> None:
        if self._pending:
            text = "".join(self._pending)
            self._parts.append(text)
            self._emit(TextDelta(text, self._pending_tokens))
            self._pending.clear()
            self._pending_tokens = 0
            self._due = time.perf_counter() + self._interval


def _usage(counts: _Counts, timing: _Timing) -> Usage:
    return Usage(
        prompt_tokens=counts.prompt,
        reused_tokens=counts.reused,
        restored_tokens=counts.restored,
        evaluated_tokens=counts.evaluated,
        generated_tokens=counts.generated,
        drafted_tokens=counts.drafted,
        accepted_tokens=counts.accepted,
        restore_seconds=timing.restore,
        prefill_seconds=timing.prefill,
        decode_seconds=timing.decode,
        time_to_first_token=timing.first_token,
    )


def _assistant_ids(conversation: Conversation, rendered: Rendered) -> list[list[int]]:
    return [
        list(rendered.ids[span.start : span.end])
        for span in rendered.spans
        if span.kind == "content"
        and span.message >= 0
        and conversation.messages[span.message].role == "assistant"
    ]


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    length = min(len(a), len(b))
    for index in range(length):
        if a[index] != b[index]:
            return index
    return length
