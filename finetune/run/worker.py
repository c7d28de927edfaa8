"""The training child: a process that may run out of memory without taking the app along.

`python -m openchat_local.finetune.run.worker RUN [dry] [standstill=FILE]` trains; frames on
stdout tell of it, and a frame `{"do": "stop"}` on stdin asks it to stop after the step. FILE is
the descriptor of the file with the time that the process stood still.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from openchat_local.finetune.backends.memory import tells_of_memory
from openchat_local.finetune.run.events import Done, Failed, JobEvent, Outcome, Unwritten
from openchat_local.finetune.run.shortage import NO_MEMORY
from openchat_local.finetune.run.standstill import Clock, Waiting, clock_of
from openchat_local.finetune.run.wire import pack_event
from openchat_local.models.engine.wire import FrameWriter, read_frame
from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.child_process import take_over_standard_streams


def main(arguments: list[str]) -> None:
    """Train the run whose directory is the first argument."""
    path, dry = Path(arguments[0]), "dry" in arguments[1:]
    waiting = Waiting()
    clock = waiting.clock(clock_of(arguments[1:]))
    serve(lambda out, stop: _train(path, dry, teller(out, stop, waiting), stop, clock), waiting)


def serve(
    work: Callable[[FrameWriter, threading.Event], Outcome | None], waiting: Waiting | None = None
) -> NoReturn:
    """Do the `work` of a training child, which writes frames and looks whether it is to stop;
    tell how it ended, and end the process. `waiting` hears when it is to stand still."""
    frames_in, frames_out = take_over_standard_streams()
    # Ctrl-C in the terminal is the parent's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # ggml would start a debugger before it aborts, whose chatter hides why it did.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    out = FrameWriter(frames_out)
    stop = threading.Event()

    def listen() -> None:
        while (frame := read_frame(frames_in)) is not None:
            if frame["do"] == "stop":
                stop.set()
            if waiting is not None:
                waiting.heed(frame)
        # The parent is gone. Nobody would see a step end in minutes, and a resumed run must
        # not meet this one; the last checkpoint is there for it.
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    try:
        out.write(pack_event(Done(work(out, stop))))
    except OpenChatError as error:
        out.write(pack_event(Failed(type(error).__name__, str(error))))
    except OSError as error:
        if error.errno == errno.ENOMEM:
            _die_of_memory(error)
        what = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        out.write(pack_event(Unwritten(what)))
    except MemoryError as error:
        _die_of_memory(error)
    except RuntimeError as error:
        if tells_of_memory(str(error)):
            _die_of_memory(error)
        raise
    os._exit(0)


def _die_of_memory(error: Exception) -> NoReturn:
    sys.stderr.write(f"{type(error).__name__}: {error}\n")
    sys.stderr.flush()
    os._exit(NO_MEMORY)


def teller(
    out: FrameWriter, stop: threading.Event, waiting: Waiting | None = None
) -> Callable[[JobEvent], None]:
    """Writes events to the parent, and waits where that has asked for it."""

    def tell(event: JobEvent) -> None:
        try:
            out.write(pack_event(event))
        except OSError:
            stop.set()  # nobody listens any more
        if waiting is not None:
            waiting.wait()

    return tell


def _train(
    path: Path, dry: bool, tell: Callable[[JobEvent], None], stop: threading.Event, clock: Clock
) -> Outcome | None:
    from openchat_local.finetune.run.directory import RunDirectory
    from openchat_local.finetune.run.job import Job

    run = RunDirectory.open(path)
    with run.held():
        return Job(run, tell, stop.is_set, clock=clock).do(dry=dry)


if __name__ == "__main__":
    main(sys.argv[1:])
