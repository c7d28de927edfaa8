"""Who may begin: room in the cache, a runner to itself, a beginning that another is reading."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from openchat_local.models.engine.decoding.prefix_tree import common_prefix
from openchat_local.models.engine.decoding.reply import Reply
from openchat_local.models.engine.decoding.runner import Job, Runner
from openchat_local.models.errors import EngineError, OpenChatError

# A beginning of fewer tokens is read again rather than waited for.
WORTH_WAITING = 32
# What a chat holds of fewer tokens is no loss.
_WORTH_KEEPING = 128
_STEP = 256  # of the size of a runner
_NEVER = (
    "The context of {size:,} tokens has no room for this, also when nothing else is in it: start "
    "a new chat, or restart with a larger --context."
)


class Admission:
    """Jobs that wait, in the order that they came in, and the runners that they go to.

    The first runner is everybody's. A second one is opened for a reply that must be exact, while
    others are live in the first; or for those others, while such a one has the first.
    It goes when it is idle.
    """

    def __init__(self, runner: Runner, open_runner: Callable[[int], Runner | None] | None) -> None:
        self.runners = [runner]
        self.waiting: deque[Job] = deque()
        self._open_runner = open_runner

    def admit(self) -> list[tuple[Job, Exception]]:
        """Let begin whoever can; the jobs that never will, with the reason."""
        refused: list[tuple[Job, Exception]] = []
        full: list[Runner] = []
        for job in list(self.waiting):
            if self._shares_soon(job):
                continue
            runner = self._runner_for(job)
            if runner is None:
                if job.exact and len(self.runners) == 1:
                    break  # it waits until the runner is empty, so nobody else goes there first
                continue
            if runner in full:
                continue
            try:
                begun = job.begin(runner)
            except OpenChatError as error:
                refused.append((job, error))
                continue
            if begun:
                self.waiting.remove(job)
                runner.live.append(job)
            elif runner.live:
                full.append(runner)
            else:
                refused.append((job, EngineError(_NEVER.format(size=runner.pool.size))))
        if len(self.runners) > 1 and not self.runners[1].live:
            self.runners[1].close()  # still among the runners: what is dropped may be saved
            self.runners.pop()
        return refused

    def _runner_for(self, job: Job) -> Runner | None:
        first = self.runners[0]
        usable = [runner for runner in self.runners if _may_enter(job, runner)]
        needed = min(job.cells, first.pool.size)
        usable = [runner for runner in usable if needed <= runner.pool.size]
        if usable and not (job.exact and usable[0] is first and _would_lose(job, first)):
            return usable[0]
        return self._opened(job) or (usable[0] if usable else None)

    def _opened(self, job: Job) -> Runner | None:
        first = self.runners[0]
        if len(self.runners) > 1 or self._open_runner is None:
            return None
        if not (job.exact or first.exclusive):
            return None
        size = min(first.pool.size, -(-job.cells // _STEP) * _STEP)
        runner = self._open_runner(size)
        if runner is not None:
            runner.pool.dropping = first.pool.dropping
            self.runners.append(runner)
        return runner

    def _shares_soon(self, job: Job) -> bool:
        """Whether somebody is just reading what this one begins with."""
        if job.exact or not job.ids:
            return False
        for runner in self.runners:
            held = -1
            for other in runner.live:
                if not isinstance(other, Reply) or other.adapter.key != job.adapter.key:
                    continue
                read = 0 if other.sequence is None else len(other.sequence.tokens)
                if read >= len(other.ids):
                    continue
                common = min(common_prefix(other.ids, job.ids), len(job.ids) - 1)
                if common - read < WORTH_WAITING:
                    continue
                if held < 0:
                    held = runner.pool.longest_prefix(job.ids, job.adapter.key)[1]
                if common - held >= WORTH_WAITING:
                    return True
        return False


def _may_enter(job: Job, runner: Runner) -> bool:
    return not runner.live if job.exact else not runner.exclusive


def _would_lose(job: Job, runner: Runner) -> bool:
    """Whether other chats would lose what they hold in `runner` to a job that must be alone."""
    key = job.request.chat_key if isinstance(job, Reply) else None
    return any(
        sequence.chat_key not in (None, key)
        and not sequence.left
        and len(sequence.tokens) >= _WORTH_KEEPING
        for sequence in runner.pool.sequences
    )
