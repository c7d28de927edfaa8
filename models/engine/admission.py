"""Who may begin: room in the cache, a lane to itself, a beginning that another is reading."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from openchat_local.models.engine.lanes import Job, Lane
from openchat_local.models.engine.running import Reply
from openchat_local.models.engine.sequences import common_prefix
from openchat_local.models.errors import EngineError, OpenChatError

# A beginning of fewer tokens is read again rather than waited for.
WORTH_WAITING = 32
# What a chat holds of fewer tokens is no loss.
_WORTH_KEEPING = 128
_STEP = 256  # of the size of a lane
_NEVER = (
    "The context of {size:,} tokens has no room for this, also when nothing else is in it: start "
    "a new chat, or restart with a larger --context."
)


class Admission:
    """Jobs that wait, in the order that they came in, and the lanes that they go to.

    The first lane is everybody's. A second one is opened for a reply that must be exact, while
    others are live in the first; or for those others, while such a one has the first.
    It goes when it is idle.
    """

    def __init__(self, lane: Lane, open_lane: Callable[[int], Lane | None] | None) -> None:
        self.lanes = [lane]
        self.waiting: deque[Job] = deque()
        self._open_lane = open_lane

    def admit(self) -> list[tuple[Job, Exception]]:
        """Let begin whoever can; the jobs that never will, with the reason."""
        refused: list[tuple[Job, Exception]] = []
        full: list[Lane] = []
        for job in list(self.waiting):
            if self._shares_soon(job):
                continue
            lane = self._lane_for(job)
            if lane is None:
                if job.exact and len(self.lanes) == 1:
                    break  # it waits until the lane is empty, so nobody else goes there first
                continue
            if lane in full:
                continue
            try:
                begun = job.begin(lane)
            except OpenChatError as error:
                refused.append((job, error))
                continue
            if begun:
                self.waiting.remove(job)
                lane.live.append(job)
            elif lane.live:
                full.append(lane)
            else:
                refused.append((job, EngineError(_NEVER.format(size=lane.pool.size))))
        if len(self.lanes) > 1 and not self.lanes[1].live:
            self.lanes[1].close()  # still among the lanes: what is dropped may be saved
            self.lanes.pop()
        return refused

    def _lane_for(self, job: Job) -> Lane | None:
        first = self.lanes[0]
        usable = [lane for lane in self.lanes if _may_enter(job, lane)]
        needed = min(job.cells, first.pool.size)
        usable = [lane for lane in usable if needed <= lane.pool.size]
        if usable and not (job.exact and usable[0] is first and _would_lose(job, first)):
            return usable[0]
        return self._opened(job) or (usable[0] if usable else None)

    def _opened(self, job: Job) -> Lane | None:
        first = self.lanes[0]
        if len(self.lanes) > 1 or self._open_lane is None:
            return None
        if not (job.exact or first.exclusive):
            return None
        size = min(first.pool.size, -(-job.cells // _STEP) * _STEP)
        lane = self._open_lane(size)
        if lane is not None:
            lane.pool.dropping = first.pool.dropping
            self.lanes.append(lane)
        return lane

    def _shares_soon(self, job: Job) -> bool:
        """Whether somebody is just reading what this one begins with."""
        if job.exact or not job.ids:
            return False
        for lane in self.lanes:
            held = -1
            for other in lane.live:
                if not isinstance(other, Reply) or other.adapter.key != job.adapter.key:
                    continue
                read = 0 if other.sequence is None else len(other.sequence.tokens)
                if read >= len(other.ids):
                    continue
                common = min(common_prefix(other.ids, job.ids), len(job.ids) - 1)
                if common - read < WORTH_WAITING:
                    continue
                if held < 0:
                    held = lane.pool.longest_prefix(job.ids, job.adapter.key)[1]
                if common - held >= WORTH_WAITING:
                    return True
        return False


def _may_enter(job: Job, lane: Lane) -> bool:
    return not lane.live if job.exact else not lane.exclusive


def _would_lose(job: Job, lane: Lane) -> bool:
    """Whether other chats would lose what they hold in `lane` to a job that must be alone."""
    key = job.request.chat_key if isinstance(job, Reply) else None
    return any(
        sequence.chat_key not in (None, key)
        and not sequence.left
        and len(sequence.tokens) >= _WORTH_KEEPING
        for sequence in lane.pool.sequences
    )
