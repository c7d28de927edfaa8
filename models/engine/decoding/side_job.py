"""Work that is done a batch at a time, between the decode steps of replies."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

from openchat_local.models.engine.decoding.llamacpp import Aborted, AbortFlag, Model
from openchat_local.models.engine.decoding.loaded_adapters import ActiveAdapter
from openchat_local.models.engine.decoding.prefix_tree import Row
from openchat_local.models.engine.decoding.runner import Cancels
from openchat_local.models.engine.decoding.side_context import SideContext, SideSettings
from openchat_local.models.engine.protocol import AdapterChoice

# Seconds that a step may render, where nobody waits: then other requests are looked at.
_UNHURRIED = 0.1


class Interruption:
    """Stops the batch of a job because something else is to be done first; it is evaluated
    again later. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._abort: AbortFlag | None = None

    def __call__(self) -> None:
        with self._lock:
            if self._abort is not None:
                self._abort.set()

    @contextmanager
    def of(self, abort: AbortFlag) -> Iterator[None]:
        """Of what is decoded inside, by this flag."""
        with self._lock:
            self._abort = abort
        try:
            yield
        finally:
            with self._lock:
                self._abort = None


class Beside:
    """What jobs have of the engine: the `model`, the `settings` of their contexts, what a
    choice of adapter means, who has been cancelled, and an `interruption` for newcomers, whom
    a full batch would keep waiting for seconds."""

    def __init__(
        self,
        model: Model,
        settings: SideSettings,
        in_force: Callable[[AdapterChoice | None], ActiveAdapter],
        cancels: Cancels,
    ) -> None:
        self.model = model
        self.settings = settings
        self.in_force = in_force
        self.cancels = cancels
        self.interruption = Interruption()


class SideJob(ABC):
    """Stepped until it is `done`, or cancelled, or has failed; then closed. `adapter` is the
    one that it is using."""

    def __init__(self, id: int, beside: Beside, fail: Callable[[Exception], None]) -> None:
        self.id = id
        self.fail = fail
        self.done = False
        self.adapter: ActiveAdapter | None = None
        self._beside = beside
        self._context: SideContext | None = None
        self._seconds: float | None = None
        self._row_seconds: float | None = None
        self._deadline = 0.0
        self._work = self._batches()

    def step(self, seconds: float | None) -> None:
        """Do one batch, which takes about so long; a full one for None, where nobody waits.

        Raises Aborted when the job was cancelled meanwhile, and OpenChatError.
        """
        self._seconds = seconds
        self._deadline = time.perf_counter() + (_UNHURRIED if seconds is None else seconds)
        try:
            next(self._work)
        except StopIteration:
            self.done = True

    def close(self) -> None:
        """Give up what is not done, and the memory."""
        self._work.close()
        if self._context is not None:
            self._context.close()
            self._context = None

    @abstractmethod
    def _batches(self) -> Generator[None, None, None]:
        """All there is to do, in pieces."""

    @property
    def _is_time(self) -> bool:
        """Whether this step has taken as long as it may."""
        return time.perf_counter() >= self._deadline

    def _opened(self, lengths: Sequence[int], *, embeddings: bool = False) -> SideContext:
        beside = self._beside
        self._context = SideContext(beside.model, beside.settings, lengths, embeddings=embeddings)
        return self._context

    def _use(self, context: SideContext, choice: AdapterChoice | None) -> None:
        """Evaluate under this adapter from now on. Raises AdapterError or ModelFileError."""
        adapter = self._beside.in_force(choice)
        context.set_adapter(adapter.weights, adapter.scale)
        self.adapter = adapter  # that before may go only now

    def _most_rows(self, context: SideContext) -> int:
        """How many rows the next batch may have."""
        if self._seconds is None:
            return context.outputs
        if self._row_seconds is None:
            return 1
        return max(1, min(context.outputs, int(self._seconds / self._row_seconds)))

    def _evaluate(
        self, context: SideContext, rows: Sequence[Row], *, all_wanted: bool = False
    ) -> bool:
        """False where it was interrupted, and is to be done again. Raises Aborted where the job
        was cancelled, and EngineError."""
        cancels, started = self._beside.cancels, time.perf_counter()
        cancels.enter(self.id, context.abort)
        try:
            with self._beside.interruption.of(context.abort):
                context.decode(rows, all_wanted=all_wanted)
                context.wait()
        except Aborted:
            if cancels.includes(self.id):
                raise
            return False
        finally:
            cancels.leave()
        self._row_seconds = (time.perf_counter() - started) / len(rows)
        return True
