"""Work of the window's parts, which are no widgets, on a widget's account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.widget import Widget
    from textual.worker import Worker


def begin(node: Widget, work: Callable[[], Awaitable[None]], group: str | None = None) -> None:
    """Run `work` while the window goes on; within a group the newest alone counts.

    The function itself is passed, not its coroutine: one that is overtaken never begins.
    """

    async def run() -> None:
        await work()

    group, exclusive = group or "default", group is not None
    _worker: Worker[None] = node.run_worker(run, group=group, exclusive=exclusive)
