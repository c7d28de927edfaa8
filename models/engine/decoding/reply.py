"""One reply in progress: its prompt is read, then it is decoded a batch at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from openchat_local.models.engine.decoding.llamacpp import Rows
from openchat_local.models.engine.decoding.loaded_adapters import ActiveAdapter
from openchat_local.models.engine.decoding.output import Emit, Output
from openchat_local.models.engine.decoding.prefix_tree import common_prefix
from openchat_local.models.engine.decoding.prompting import Prompt
from openchat_local.models.engine.decoding.runner import Runner
from openchat_local.models.engine.decoding.sampler import TokenSampler
from openchat_local.models.engine.decoding.sequences import CachedSequence
from openchat_local.models.engine.decoding.speculation import Speculation
from openchat_local.models.engine.protocol import (
    Finished,
    FinishReason,
    GenerationRequest,
    PrefillProgress,
    Usage,
)
from openchat_local.models.engine.states import SavedState
from openchat_local.models.memory import CPU_BATCH
from openchat_local.models.template import Template
from openchat_local.models.template.vocabulary import ContentDecoder

# A prompt is decoded up to the next multiple of so many tokens, and on from there. A GPU wants
# more at a time, and stops between two chunks only.
CHUNK, GPU_CHUNK = CPU_BATCH, 256
# Restoring reads the whole state: below this many tokens a prefill is as quick.
RESTORE_GAIN = 64
# Beside others a reply begins only where so many of its tokens have room, or all it may have.
HEADROOM = 128

Fail = Callable[[Exception], None]


@dataclass
class Timing:
    started: float = field(default_factory=time.perf_counter)
    restore: float = 0.0
    prefill: float = 0.0
    first_token: float = 0.0
    decoding_since: float = 0.0


@dataclass
class Counts:
    prompt: int
    reused: int = 0
    restored: int = 0
    evaluated: int = 0
    generated: int = 0
    drafted: int = 0
    accepted: int = 0


class Reply:
    """A request on its way to `Finished`.

    While it waits it has no `sequence`. `ids` is all that is to be evaluated before the next
    token can be drawn: the prompt, and once it was suspended what it has written as well.
    `pending` tokens were drawn and are to be evaluated next. An `exact` one has a seed of its
    own, and repeats bit for bit: it runs in a runner of its own, in chunks by position. Others
    may put drafted tokens behind the pending ones: they are kept as far as the reply's own
    sampler draws them.
    """

    def __init__(
        self,
        id: int,
        request: GenerationRequest,
        prompt: Prompt,
        adapter: ActiveAdapter,
        sampler: TokenSampler,
        template: Template,
        emit: Emit,
        fail: Fail,
    ) -> None:
        """Raises EngineError if a JSON schema forbids what the reply begins with."""
        self.id = id
        self.adapter = adapter
        self.exact = request.exact
        self.request = request
        self.ids = prompt.ids
        self.sequence: CachedSequence | None = None
        self.runner: Runner | None = None
        self.pending: list[int] = []
        self.emit = emit
        self.fail = fail
        self._prompt = prompt
        self._sampler = sampler
        self._stop_ids = template.stop_ids
        self._vocabulary = template.vocabulary
        self._limit = request.sampling.max_tokens
        self._counts = Counts(len(prompt.ids))
        self._timing = Timing()
        plain = request.prompt_ids is not None  # continued as it stands, a space included
        decoder = ContentDecoder(template.vocabulary) if plain else template.content_decoder()
        self._output = Output(
            decoder,
            request,
            prompt.begun,
            emit,
            opened=prompt.opened,
            thoughts=None if plain else template.thoughts,
        )
        self._resumed = False
        self._speculation: Speculation | None = None
        self._drafts: list[int] = []  # in the batch to come
        self._unverified: list[int] = []  # in the cache, and not drawn yet
        sampler.begin(prompt.begun)

    # Reading the prompt

    @property
    def cells(self) -> int:
        """The most cells that it may come to need; one more than there can be for no limit."""
        if self._limit is None:
            return 1 << 62
        return len(self.ids) + max(0, self._limit - self._counts.generated)

    @property
    def left(self) -> int:
        """How many tokens are still to be evaluated before the next can be drawn."""
        return len(self.ids) - (0 if self.sequence is None else len(self.sequence.tokens))

    def begin(self, runner: Runner) -> bool:
        """Take a sequence in `runner`, from the disk if that spares work; False where there is no
        room now."""
        restored = 0 if self._resumed else self._restore(runner)
        left = HEADROOM if self._limit is None else self._limit - self._counts.generated
        sequence = runner.pool.take(
            self.ids,
            self.adapter.key,
            self.request.chat_key,
            exact=self.exact,
            headroom=max(0, min(left, HEADROOM)) + runner.headroom,
        )
        if sequence is None:
            return False
        self.sequence, self.runner = sequence, runner
        sequence.states = self.adapter.states
        if not self._resumed:
            self._counts.reused = len(sequence.tokens)
            self._counts.restored = min(restored, self._counts.reused)
        return True

    def advance(self, runner: Runner, rows: int) -> bool:
        """Evaluate a chunk of at most `rows` tokens; True when all of `ids` are.

        Raises Aborted when it was cancelled meanwhile.
        """
        started = time.perf_counter()
        part = self.chunk(runner, rows)
        runner.decode([part], self.id)
        runner.context.wait()
        return self.read(runner, part, time.perf_counter() - started, alone=True)

    def chunk(self, runner: Runner, rows: int) -> Rows:
        """The next tokens to evaluate, at most `rows`."""
        sequence = self._held
        done = len(sequence.tokens)
        end = min(self._end_of_chunk(runner, done), done + rows)
        return Rows(sequence.id, done, self.ids[done:end])

    def _end_of_chunk(self, runner: Runner, done: int) -> int:
        # Where a chunk ends follows from the position and from nothing else, unless others are
        # not to wait so long. The last token is a chunk of its own, so that another reply to
        # the same prompt finds all the others in the cache.
        return min(done + runner.chunk - done % runner.chunk, max(done + 1, len(self.ids) - 1))

    def read(self, runner: Runner, part: Rows, seconds: float, *, alone: bool) -> bool:
        """A chunk was evaluated, `alone` or beside rows of others; True when it was the last."""
        end, total = part.position + len(part.ids), len(self.ids)
        whole = end == self._end_of_chunk(runner, part.position)
        exact = alone and whole and runner.repeats
        runner.pool.decoded(self._held, part.ids, exact=exact)
        self._timing.prefill += seconds
        if end < total:
            if not self._resumed:
                reused = self._counts.reused
                self.emit(PrefillProgress(end - reused, total - reused))
            return False
        if not self._timing.decoding_since:
            self._timing.decoding_since = time.perf_counter()
        return True

    # Decoding

    def rows(self, most: int, beside: int, longest: float) -> Rows:
        """What it puts into the next batch, at most `most` rows with logits, beside so many
        rows of others: the tokens drawn but not evaluated yet, and drafts if it takes no more
        than `longest` seconds with them."""
        sequence = self._held
        self._drafts = drafts = self._drafted(most, beside, longest)
        ids = self.pending + drafts if drafts else self.pending
        return Rows(sequence.id, len(sequence.tokens), ids, 1 + len(drafts))

    def _drafted(self, most: int, beside: int, longest: float) -> list[int]:
        runner, speculation = self.runner, self._speculation
        if runner is None or runner.costs is None or self.exact or not self.request.speculate:
            return []
        if speculation is None:
            begun, likely = self._prompt.begun, self.request.likely
            speculation = self._speculation = Speculation(
                runner.costs,
                self._prompt.ids,
                begun=begun,
                likely=self._vocabulary.tokenize_content(likely) if likely else (),
            )
            speculation.follow(self._output.ids[len(begun) :])
        most = min(most - 1, runner.pool.free - beside - len(self.pending))
        if self._limit is not None:  # one more is drawn than there are drafts
            most = min(most, self._limit - self._counts.generated - 1)
        certain = len(self.pending)
        return speculation.draft(most, certain=certain, beside=beside, longest=longest)

    def decoded(self, runner: Runner, *, alone: bool) -> None:
        """Its rows were decoded, `alone` or with others'."""
        drafts = self._drafts
        exact = alone and not drafts and runner.repeats
        runner.pool.decoded(self._held, self.pending + drafts, exact=exact)
        self._counts.drafted += len(drafts)
        self._drafts, self._unverified = [], drafts
        self.pending = []

    def draw(self, runner: Runner, row: int) -> Finished | None:
        """Draw the next token from the logits of row `row` of the last batch, the first of its
        own, and what a schema forces behind it; and from the rows after it, as long as what is
        drawn are the drafts. The last event where the reply ends with it.

        Raises EngineError where the schema allows no token.
        """
        finished = self._draw_one(runner, row)
        while finished is None and self._unverified:
            agreed = common_prefix(self._unverified, self.pending)
            self._counts.accepted += agreed
            del self._unverified[:agreed], self.pending[:agreed]
            if self.pending:
                self._reject(runner)
                break
            row += agreed
            finished = self._draw_one(runner, row)
        return finished

    def _reject(self, runner: Runner) -> None:
        """Take the drafts that were not drawn out of the cache."""
        if self._unverified and self.sequence is not None:
            runner.pool.cut(self.sequence, len(self.sequence.tokens) - len(self._unverified))
        self._unverified = []

    def _draw_one(self, runner: Runner, row: int) -> Finished | None:
        counts = self._counts
        if self._limit is not None and counts.generated >= self._limit:
            return self.finished("length")
        token = self._sampler.sample(runner.context, row)
        if counts.generated == 0:
            self._timing.first_token = time.perf_counter() - self._timing.started
        tokens = [token]
        room = runner.pool.size - len(self._held.tokens) + len(self._unverified)
        if self._sampler.forces and token not in self._stop_ids:
            left = room if self._limit is None else min(room, self._limit - counts.generated - 1)
            tokens += self._sampler.forced(min(left, CHUNK - 1))
        for token in tokens:
            counts.generated += 1
            if token in self._stop_ids or self._output.feed(token):
                return self.finished("stop")
        if self._sampler.finished:
            return self.finished("stop")
        if len(tokens) > room:
            return self.finished(
                "length",
                f"The context of {runner.pool.size:,} tokens is full: start a new chat, "
                "or restart with a larger --context.",
            )
        if self._limit is not None and counts.generated >= self._limit:
            return self.finished("length")
        self.pending = tokens
        if self._speculation is not None:
            self._speculation.follow(tokens)
        return None

    def cancel(self) -> None:
        """It was cancelled: say so."""
        self.emit(self.finished("cancelled"))

    def suspend(self) -> None:
        """Give the cells back to those who came first, and begin again where it was when there
        are enough: what it has written stays written."""
        sequence, runner = self.sequence, self.runner
        if sequence is not None and runner is not None:
            if self._counts.generated > 0:
                self._resumed = True
                self.ids = [*sequence.tokens, *self.pending] if self.pending else self.ids
            self.pending = []
            runner.pool.drop(sequence)
        self.sequence = self.runner = None

    # The end

    def finished(self, reason: FinishReason, note: str | None = None) -> Finished:
        """Give everything back; the last event."""
        self._output.finish(whole=reason == "stop")
        usage = self._usage()
        note = " ".join(filter(None, (note, self._sampler.note))) or None
        ids, complete = tuple(self._output.ids), self._sampler.complete
        self.close()
        name, vocabulary = self.adapter.name, self._vocabulary.fingerprint
        return Finished(reason, usage, ids, note, name, complete, vocabulary)

    def close(self) -> None:
        """Give back sequence and sampler, also after an error."""
        if self.sequence is not None and self.runner is not None:
            self._reject(self.runner)
            self.runner.pool.idle(self.sequence)
        self.sequence = self.runner = None
        self._sampler.close()

    def _usage(self) -> Usage:
        counts, timing = self._counts, self._timing
        held = len(self.sequence.tokens) if self.sequence is not None else 0
        if not self._resumed:
            counts.evaluated = max(0, min(held, counts.prompt) - counts.reused)
        else:
            counts.evaluated = counts.prompt - counts.reused
        since, output, now = timing.decoding_since, self._output, time.perf_counter()
        thought = (output.thinking_ended or now) - since if output.reasoning_tokens else 0.0
        return Usage(
            prompt_tokens=counts.prompt,
            reused_tokens=counts.reused,
            restored_tokens=counts.restored,
            evaluated_tokens=counts.evaluated,
            generated_tokens=counts.generated,
            restore_seconds=timing.restore,
            prefill_seconds=timing.prefill,
            decode_seconds=now - since if since else 0.0,
            time_to_first_token=timing.first_token,
            drafted_tokens=counts.drafted,
            accepted_tokens=counts.accepted,
            reasoning_tokens=output.reasoning_tokens,
            reasoning_seconds=thought,
        )

    @property
    def _held(self) -> CachedSequence:
        assert self.sequence is not None
        return self.sequence

    # KV states on disk

    def _restore(self, runner: Runner) -> int:
        """Load the chat's state if it spares work; the number of tokens it brought."""
        saved = self._saved_state(runner)
        states, chat_key = self.adapter.states, self.request.chat_key
        if saved is None or states is None or chat_key is None:
            return 0
        _, held = runner.pool.longest_prefix(self.ids, self.adapter.key)
        gain = min(common_prefix(saved.tokens, self.ids), len(self.ids) - 1) - held
        if gain < RESTORE_GAIN or len(saved.tokens) > runner.pool.size:
            return 0
        started = time.perf_counter()
        path = states.verified_path(chat_key, saved)
        sequence = None
        if path is not None:
            sequence = runner.pool.restore(
                path,
                saved.tokens,
                saved.chunks,
                self.adapter.key,
                exact=len(saved.tokens) if saved.exact is None else saved.exact,
                alone=self.exact,
            )
        self._timing.restore = time.perf_counter() - started
        if sequence is None:
            return 0
        sequence.chat_key = chat_key
        return len(saved.tokens)

    def _saved_state(self, runner: Runner) -> SavedState | None:
        states, chat_key = self.adapter.states, self.request.chat_key
        if states is None or chat_key is None:
            return None
        for sequence in runner.pool.sequences:
            if (sequence.chat_key, sequence.adapter) == (chat_key, self.adapter.key):
                return None
        return states.find(chat_key)
