"""Whose turn it is: those that one batch can serve, and one such group after another."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from openchat_local.models.engine.decoding.loaded_adapters import ActiveAdapter
from openchat_local.models.engine.decoding.reply import Reply
from openchat_local.models.engine.decoding.runner import Job, Runner

WAIT = 0.25
"""Seconds that nobody in progress should wait for others at a time."""
# Of that, what is planned with: a machine is slower from one moment to the next.
PLANNED = 0.7
_FAR_LESS = 2  # times less of a prompt left to read
_LONGEST_TURN = 2.0  # seconds that others wait for, where that cannot be helped


@dataclass(eq=False)
class Group:
    """What is live under one adapter in one runner: `decoding` are replies being written,
    `reading` those whose prompt is."""

    runner: Runner
    adapter: ActiveAdapter
    decoding: list[Reply] = field(default_factory=list)
    reading: deque[Job] = field(default_factory=deque)

    @property
    def place(self) -> tuple[int, str]:
        return id(self.runner), self.adapter.key


class Turns:
    """Groups take turns of `share` seconds. With one group there is nothing to do."""

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.live = 0
        self._number = 0
        self._since = self._until = 0.0
        self._hurried = 0.0  # seconds that others read before the first in the row

    def share(self, beside: bool) -> float:
        """Seconds that one group may take before the others, and whoever else is served
        `beside` them, have theirs."""
        return PLANNED * WAIT / max(1, len(self.groups) + beside)

    def regroup(self, runners: Iterable[Runner], written: Collection[int]) -> None:
        """Somebody came, went, or is through with reading: the ids of those are `written`."""
        groups: dict[tuple[int, str], Group] = {}
        self.live = 0
        for runner in runners:
            runner.regrouped()
            for job in runner.live:
                self.live += 1
                group = Group(runner, job.adapter)
                group = groups.setdefault(group.place, group)
                if isinstance(job, Reply) and job.id in written:
                    group.decoding.append(job)
                else:
                    group.reading.append(job)
        before = self.groups[self._number].place if self.groups else None
        self.groups = list(groups.values())
        places = [group.place for group in self.groups]
        self._number = places.index(before) if before in places else 0
        if len(self.groups) == 1:
            self._until = 0.0

    def next(self, beside: bool) -> Group:
        """The group whose turn it is; there must be one."""
        if len(self.groups) > 1:
            now = time.perf_counter()
            if not self._until:
                self._since, self._until = now, now + self.share(beside)
            elif now >= self._until:
                self._number = (self._number + 1) % len(self.groups)
                # Whoever was kept waiting for a whole chunk has as much time then.
                waited = min(now - self._since, _LONGEST_TURN)
                self._since, self._until = now, now + max(self.share(beside), waited)
        return self.groups[self._number]

    def reader(self, group: Group, share: float) -> Job:
        """Who of `group` reads next: the first in the row, or before it one that has far less
        left, so that a short question is answered before a long text is read. Nobody waits so
        for more than `share` seconds."""
        first = group.reading[0]
        if self._hurried >= share:
            return first
        shortest = min(group.reading, key=lambda job: job.left)
        return shortest if _FAR_LESS * shortest.left <= first.left else first

    def has_read(self, group: Group, job: Job, seconds: float) -> None:
        """`job` had its turn, which took so long."""
        if job is group.reading[0]:
            group.reading.rotate(-1)
            self._hurried = 0.0
        else:
            self._hurried += seconds
