"""A child that stands still: by a signal, or where there is none by itself; its clock does too."""

from __future__ import annotations

import os
import threading
import time

import pytest

from openchat_local.finetune.run.events import Phase
from openchat_local.finetune.run.standstill import (
    GO_ON,
    HALT,
    Waiting,
    clock_of,
    handed_over,
    shared_total,
)
from openchat_local.finetune.run.worker import teller
from openchat_local.models.engine.wire import FrameWriter


@pytest.mark.skipif(os.name == "nt", reason="hands over no descriptors")
def test_the_clock_does_not_count_what_the_parent_has_noted() -> None:
    with shared_total() as total:
        (argument,), _ = handed_over(total)
        clock = clock_of(["dry", argument])
        before = clock()
        total.seek(0)
        total.write(b"\0\0\0\0\0\0\x59\x40")  # 100.0
        assert before - 100 <= clock() < before


def test_without_signals_a_child_waits_where_it_tells_something() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as frames, os.fdopen(write, "wb") as out:
        waiting = Waiting()
        clock = waiting.clock(time.perf_counter)
        tell = teller(FrameWriter(out), threading.Event(), waiting)
        waiting.heed(HALT)
        child = threading.Thread(target=tell, args=(Phase("training"),))
        began, all_in_all = clock(), time.perf_counter()
        child.start()
        assert frames.read(4)  # it has told
        child.join(0.02)
        assert child.is_alive()
        waiting.heed(GO_ON)
        child.join()
        assert clock() - began < time.perf_counter() - all_in_all - 0.01
        waiting.heed(HALT)
        waiting.heed({"do": "stop"})  # after the step that it is at
        tell(Phase("training"))
