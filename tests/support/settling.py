"""When the window has done all that it was told: what Textual's pilot waits for after a key.

Textual takes twenty milliseconds without much processor time for the end of the work. That is
slow where the machine is quick, and wrong where it is loaded: a process that is not given the
processor looks idle too.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import textual.app
import textual.pilot
from textual._context import active_app

MOST_SECONDS = 1.0
"""Longest wait for a thread: it may be one that waits for the test."""

_threads: set[asyncio.Future[Any]] = set()


async def settled(min_sleep: float = 0, max_sleep: float = MOST_SECONDS) -> None:
    """Return when nothing can run before a timer, a thread of its own or the test goes on: no
    message waits, no task is ready, no answer of a thread is awaited, all is painted."""
    loop: Any = asyncio.get_running_loop()
    app = active_app.get(None)
    end = time.monotonic() + max_sleep
    while time.monotonic() < end:
        await asyncio.sleep(0)
        if loop._ready:
            continue
        if _threads:
            await asyncio.wait(_threads, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
            continue
        if app is not None and app._resize_timer is not None:  # a new size is told a little later
            await asyncio.sleep(0.005)
            continue
        screen = None if app is None or not app._screen_stack else app.screen
        if screen is None or not _unpainted(screen):
            return
        screen._on_timer_update()


def _unpainted(screen: Any) -> bool:
    if screen.app._batch_count or not screen.is_current:
        return False
    return bool(
        screen._layout_required
        or screen._scroll_required
        or screen._repaint_required
        or screen._dirty_widgets
        or screen._recompose_required
        or screen._callbacks
    )


def install(monkeypatch: Any) -> None:
    """Have the pilot wait for that, in the event loop that is running."""
    loop = asyncio.get_running_loop()
    run_in_executor = loop.run_in_executor

    def counted(executor: Any, function: Any, *args: Any) -> asyncio.Future[Any]:
        future = run_in_executor(executor, function, *args)
        _threads.add(future)
        future.add_done_callback(_threads.discard)
        return future

    _threads.clear()
    monkeypatch.setattr(loop, "run_in_executor", counted)
    monkeypatch.setattr(textual.app, "wait_for_idle", settled)
    monkeypatch.setattr(textual.pilot, "wait_for_idle", settled)
