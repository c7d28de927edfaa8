"""A context at work: its sequences, the adapter in force, and who may be interrupted in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from openchat_local.models.engine.decoding.governor import Pace, ThreadGovernor
from openchat_local.models.engine.decoding.llamacpp import Aborted, AbortFlag, Context, Rows
from openchat_local.models.engine.decoding.loaded_adapters import ActiveAdapter
from openchat_local.models.engine.decoding.sequences import SequencePool
from openchat_local.models.engine.decoding.speculation import RowCosts
from openchat_local.models.memory import OUTPUT_ROWS

# Steps that those who are live should be able to take when another begins.
_STEPS = 16


class Job(Protocol):
    """Work in the cells that all share, which the scheduler gives its turns: a reply. (Scores and
    vectors have a context of their own: `SideJob`.)

    It waits until `begin` finds room. Then `advance` is called again and again, between batches
    of the replies that are being decoded, until it is done. An `exact` one wants the context to
    itself. Those of one adapter are served together.
    """

    id: int
    adapter: ActiveAdapter
    exact: bool
    fail: Callable[[Exception], None]

    @property
    def ids(self) -> Sequence[int]:
        """What its first sequence begins with: one that is being read with the same beginning
        is waited for, and shared. Empty where that is not wanted."""

    @property
    def cells(self) -> int:
        """The most cells that it may come to hold at once."""

    @property
    def left(self) -> int:
        """How many tokens of its prompt are still to be read."""

    def begin(self, runner: Runner) -> bool:
        """Take sequences from the runner's pool; False, with nothing taken, where there is no
        room now. Raises OpenChatError where there never will be."""

    def advance(self, runner: Runner, rows: int) -> bool:
        """Decode at most `rows` rows by `runner.decode`; True when all is done, and told. Lets
        Aborted through, which `runner.decode` raises when the job was cancelled meanwhile."""

    def cancel(self) -> None:
        """It was cancelled: tell whoever asked, and give everything back."""

    def close(self) -> None:
        """Give everything back; also after an error."""


class Cancels:
    """Which requests are open and which of them were cancelled; any thread may ask.

    A cancel stops llama.cpp in the middle of a batch where nobody else has rows in it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._cancelled: set[int] = set()
        self._owner: int | None = None
        self._abort: AbortFlag | None = None
        self.pending = False  # somebody was cancelled who has not heard of it

    def open(self, id: int) -> None:
        """A request is about to come: from now on it can be cancelled."""
        with self._lock:
            self._open.add(id)

    def done(self, id: int) -> None:
        with self._lock:
            self._open.discard(id)
            self._cancelled.discard(id)

    def cancel(self, id: int | None) -> None:
        """Cancel this request, or all; one that is not open any more is passed over."""
        with self._lock:
            ids = self._open if id is None else self._open & {id}
            self._cancelled |= ids
            self.pending = self.pending or bool(ids)
            if self._owner in ids and self._abort is not None:
                self._abort.set()

    def take(self) -> frozenset[int]:
        """All that are cancelled and still open."""
        with self._lock:
            self.pending = False
            return frozenset(self._cancelled)

    def includes(self, id: int) -> bool:
        """Whether this request was cancelled and is still open."""
        with self._lock:
            return id in self._cancelled

    def enter(self, owner: int | None, abort: AbortFlag) -> None:
        """A batch of `owner` alone begins, or of several (None). Raises Aborted."""
        with self._lock:
            abort.clear()
            if owner in self._cancelled:
                raise Aborted
            self._owner, self._abort = owner, abort

    def leave(self) -> None:
        self._owner = None


class Runner:
    """A context with what is live in it. `live` are in the order that they were admitted in;
    `chunk` is how many tokens of a prompt are decoded at once when nobody waits; `costs` what
    rows cost there, None where nothing is drafted."""

    def __init__(
        self,
        context: Context,
        chunk: int,
        cancels: Cancels,
        governor: ThreadGovernor | None = None,
        *,
        speculation: bool = True,
    ) -> None:
        self.context = context
        # What was drafted in vain is cut away again.
        self.costs = RowCosts() if speculation and context.model.cuttable else None
        self.chunk = chunk
        self.pool = SequencePool(context)
        self.live: list[Job] = []
        self.in_force: ActiveAdapter | None = None
        self.pace = Pace(governor, context.use_threads)
        self.rows = 0  # of the last batch
        self.shortage = 0  # the rows that somebody last had to make room for
        self._cancels = cancels

    @property
    def exclusive(self) -> bool:
        """Whether one is live that shares the context with nobody."""
        return any(job.exact for job in self.live)

    @property
    def repeats(self) -> bool:
        """Whether what is decoded now, alone, has the bits that it would always have."""
        return self.pace.full or not self.context.divides

    def regrouped(self) -> None:
        """Others are live than before: what a token takes has to be learnt anew. An exact one
        is decoded by all threads, where bits depend on how many there are."""
        self.pace.hold(self.context.divides and self.exclusive)
        self.pace.skip()

    @property
    def headroom(self) -> int:
        """Cells that those who are live should find free when another begins, so that they get
        on before it has to make room for them."""
        return max(self.shortage, _STEPS * len(self.live)) if self.live else 0

    @property
    def most_outputs(self) -> int:
        """Rows of one batch whose logits can be had."""
        return OUTPUT_ROWS

    def use(self, adapter: ActiveAdapter) -> None:
        """Decode under this adapter from now on."""
        if self.in_force is None or self.in_force.key != adapter.key:
            self.context.set_adapter(adapter.weights, adapter.scale)
            self.in_force = adapter

    def decode(self, parts: Sequence[Rows], owner: int | None) -> None:
        """One batch. Raises Aborted when `owner`, whose rows they all are, is cancelled; and
        what `Context.decode` does. Tell the pool what was decoded."""
        self._cancels.enter(owner, self.context.abort)
        self.rows = sum(len(part.ids) for part in parts)
        try:
            self.context.decode(parts)
        finally:
            self._cancels.leave()

    def close(self) -> None:
        """Free the context. Nothing may be live."""
        self.pool.clear()
        self.context.close()
