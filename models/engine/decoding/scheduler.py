"""Who is decoded next: many replies from one model, and what is read between them.

`step` is the engine's heart-beat: one batch, with a row (or more, with drafts) for each reply
that is being written under one adapter, and a chunk of one prompt. Adapters take turns, and so
do prompts; none keeps the others waiting for more than WAIT seconds.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from openchat_local.models.engine.decoding.admission import Admission
from openchat_local.models.engine.decoding.llamacpp import Aborted, CacheFull, Rows
from openchat_local.models.engine.decoding.reply import Reply
from openchat_local.models.engine.decoding.runner import Cancels, Job, Runner
from openchat_local.models.engine.decoding.side_job import SideJob
from openchat_local.models.engine.decoding.speculation import LONGEST
from openchat_local.models.engine.decoding.turns import Group, Turns
from openchat_local.models.errors import EngineError, OpenChatError

# Seconds between two tokens that nobody notices who reads.
_UNREAD = 0.05
_NO_CELLS = "llama.cpp found no room that was there: please report this, and ask again."
_ROWS_AT_FIRST = 4.0  # of a batch that others wait for, before any was timed


class Scheduler:
    """Gives jobs their turns. Everything but `cancels` belongs to one thread."""

    def __init__(
        self,
        runner: Runner,
        cancels: Cancels,
        open_runner: Callable[[int], Runner | None] | None = None,
    ) -> None:
        """`runner` is the one that everybody shares; `open_runner` makes another of so many tokens
        for a while, beside it, or says that there is no memory for it."""
        self.runner = runner
        self.cancels = cancels
        self._admission = Admission(runner, open_runner)
        self._turns = Turns()
        self._changed = False  # somebody came, went, or goes on to something else
        self._beside: deque[SideJob] = deque()
        self._written: set[int] = set()  # ids of the replies whose prompt is read
        self._quiet = True  # one is live, and nobody waits
        self._step_seconds = 0.0
        self._rows = _ROWS_AT_FIRST

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        waiting = self._admission.waiting or self._beside
        return bool(waiting) or any(runner.live for runner in self.runners)

    @property
    def runners(self) -> list[Runner]:
        return self._admission.runners

    @property
    def jobs(self) -> list[Job]:
        """All that wait or are live."""
        return [*self._admission.waiting, *self._all_live()]

    def add(self, job: Job) -> None:
        """Take a job in; it waits for its turn behind those that came before."""
        self._admission.waiting.append(job)
        self._changed = True

    def add_beside(self, job: SideJob) -> None:
        """Take in a job with a context of its own, which needs no room and shares no cells."""
        self._beside.append(job)

    @property
    def beside(self) -> Sequence[SideJob]:
        """Those jobs."""
        return self._beside

    def step(self) -> None:
        """Decode one batch; and one of a job that has a context of its own."""
        if self._changed or self.cancels.pending:
            self._tidy()
        if self._turns.groups:
            group = self._turns.next(bool(self._beside))
            group.runner.use(group.adapter)
            if group.decoding:
                self._decode(group)
            else:
                self._read(group)
        if self._beside:
            self._step_beside()
        if self._changed and not self.busy:
            self._tidy()  # what was opened for somebody is given back at once

    # Whose turn it is

    def _tidy(self) -> None:
        """Let go those who were cancelled, let in those who have room now, and see who can be
        decoded together."""
        self._changed = False
        self._end_cancelled()
        for job, error in self._admission.admit():
            self._fail(job, error)
        self._turns.regroup(self.runners, self._written)
        self._quiet = self._turns.live == 1 and not self._admission.waiting

    def _end_cancelled(self) -> None:
        cancelled = self.cancels.take()
        for job in self.jobs if cancelled else ():
            if job.id in cancelled:
                self._end(job, job.cancel)
        for side in list(self._beside) if cancelled else ():
            if side.id in cancelled:
                self._end_beside(side)

    @property
    def _share(self) -> float:
        """Seconds that one group may take before the others have theirs."""
        return self._turns.share(bool(self._beside))

    # Decoding

    def _decode(self, group: Group) -> None:
        runner, replies = group.runner, group.decoding
        alone = len(replies) == 1 and not group.reading
        parts = self._rows_of(group)
        rows = sum(len(part.ids) for part in parts)
        if runner.pool.free < rows and not runner.pool.make_room(rows):
            runner.shortage = rows
            self._suspend_youngest(runner)
            return
        planned = rows
        reader = self._turns.reader(group, self._share) if group.reading else None
        if isinstance(reader, Reply):
            planned = max(rows + 1, min(runner.chunk, int(self._rows)))
            parts.append(reader.chunk(runner, planned - rows))
            rows += len(parts[-1].ids)
        started = time.perf_counter()
        try:
            runner.decode(parts, replies[0].id if alone else None)
        except Aborted:
            return
        except CacheFull:
            self._suspend_youngest(runner)
            return
        except EngineError as error:
            for job in [*replies, *([reader] if isinstance(reader, Reply) else [])]:
                self._fail(job, error)
            return
        row = 0
        for reply, part in zip(replies, parts, strict=False):
            row += len(part.ids)
            reply.decoded(runner, alone=alone)
            self._draw(reply, runner, row - part.outputs)
        self._step_seconds = time.perf_counter() - started
        if isinstance(reader, Reply):
            self._turns.has_read(group, reader, self._step_seconds)
            self._learn(runner, rows, self._step_seconds, whole=rows >= planned)
            if reader.read(runner, parts[-1], self._step_seconds, alone=False):
                self._begin_writing(reader, runner, rows - 1)
            self._changed = self._changed or bool(self._admission.waiting)
        elif runner.costs is not None:
            runner.costs.observe(rows, self._step_seconds)
        if rows == 1:
            runner.pace.token()
        else:
            runner.pace.skip()

    def _rows_of(self, group: Group) -> list[Rows]:
        """What each reply puts into the next batch. Nothing is drafted while somebody reads,
        who can use the rows."""
        replies = group.decoding
        most = 1 if group.reading else group.runner.most_outputs // len(replies)
        longest = LONGEST if self._quiet and not self._beside else self._share
        parts: list[Rows] = []
        rows = 0
        for waiting in range(len(replies) - 1, -1, -1):
            part = replies[len(parts)].rows(most, rows + waiting, longest)
            rows += len(part.ids)
            parts.append(part)
        return parts

    def _draw(self, reply: Reply, runner: Runner, row: int) -> None:
        try:
            finished = reply.draw(runner, row)
        except EngineError as error:
            self._fail(reply, error)
            return
        if finished is not None:
            self._end(reply, partial(reply.emit, finished))

    def _suspend_youngest(self, runner: Runner) -> None:
        """Make room for those who came first: the last of the replies begins again later."""
        self._changed = True
        replies = [job for job in runner.live if isinstance(job, Reply)]
        if len(runner.live) == 1:  # it has all cells there are, and was told so
            self._fail(replies[0], EngineError(_NO_CELLS))
            return
        youngest = replies[-1]
        youngest.suspend()
        runner.live.remove(youngest)
        self._written.discard(youngest.id)
        self._admission.waiting.appendleft(youngest)

    # Reading

    def _read(self, group: Group) -> None:
        """A chunk of one prompt, where no reply is being written."""
        runner, job = group.runner, self._turns.reader(group, self._share)
        alone = self._turns.live == 1
        # An exact one is read by position whoever waits, or its bits would be others.
        rows = runner.chunk if alone or job.exact else max(1, min(runner.chunk, int(self._rows)))
        started = time.perf_counter()
        try:
            done = job.advance(runner, rows)
        except Aborted:
            return
        except CacheFull:
            self._fail(job, EngineError(_NO_CELLS))
            return
        except OpenChatError as error:
            self._fail(job, error)
            return
        seconds = time.perf_counter() - started
        self._turns.has_read(group, job, seconds)
        if alone:
            fitting = runner.rows * self._share / max(seconds, 1e-6)
            self._rows = min(float(runner.chunk), max(_ROWS_AT_FIRST, fitting))
        elif not job.exact:
            self._learn(runner, rows, seconds, whole=runner.rows >= rows)
        if self._admission.waiting:
            self._changed = True  # one may wait for what was just read
        if done and isinstance(job, Reply):
            self._begin_writing(job, runner, -1)
        elif done:
            self._end(job, job.close)

    def _begin_writing(self, reply: Reply, runner: Runner, row: int) -> None:
        self._changed = True
        self._written.add(reply.id)
        self._draw(reply, runner, row)

    def _learn(self, runner: Runner, rows: int, seconds: float, *, whole: bool) -> None:
        """A batch of so many rows took so long: the next may have more, if it was as large as it
        may be (`whole`), or fewer. What a row costs depends on how many there are, and one
        disturbed batch decides little."""
        factor = min(2.0, max(0.25, self._share / max(seconds, 1e-6)))
        if whole or factor < 1.0:
            self._rows = min(float(runner.chunk), max(1.0, rows * factor))

    # Beside the runners

    def _step_beside(self) -> None:
        job = self._beside[0]
        self._beside.rotate(-1)
        for runner in self.runners:
            runner.pace.skip()  # what this takes says nothing of a token
        try:
            job.step(self._beside_replies if self._turns.groups else None)
        except Aborted:
            return  # it is taken out like all that are cancelled
        except Exception as error:  # noqa: BLE001 - whoever asked for it is told
            self._end_beside(job, error)
            return
        if job.done:
            self._end_beside(job)

    @property
    def _beside_replies(self) -> float:
        """Seconds that a batch may take while replies are live: as many as their step takes, or
        as few as leave a reply faster than one reads."""
        return min(self._share, max(_UNREAD, self._step_seconds))

    def _end_beside(self, job: SideJob, error: Exception | None = None) -> None:
        self._beside.remove(job)
        self.cancels.done(job.id)
        job.close()
        if error is not None:
            job.fail(error)

    # The end

    def give_up(self, error: Exception) -> None:
        """End all jobs with this error."""
        for job in self.jobs:
            self._fail(job, error)
        for side in list(self._beside):
            self._end_beside(side, error)

    def _fail(self, job: Job, error: Exception) -> None:
        self._end(job, partial(job.fail, error))

    def _end(self, job: Job, tell: Callable[[], None]) -> None:
        """Take a job out, and tell whoever asked for it."""
        self._changed = True
        self._written.discard(job.id)
        for runner in self.runners:
            if job in runner.live:
                runner.live.remove(job)
        if job in self._admission.waiting:
            self._admission.waiting.remove(job)
        self.cancels.done(job.id)
        try:
            tell()
        finally:
            job.close()

    def _all_live(self) -> list[Job]:
        return [job for runner in self.runners for job in runner.live]
