"""The process that has a run in the background in hand: trains, pauses, gives way, installs.

`python -m openchat_local.finetune.run.background_process RUN HOME [ID REPLACED MADE SPARE…]`
says "begun" on stdout when the run is its own, or in a sentence why not. The arguments after
HOME are those of a `NewRun`, where there is one.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openchat_local.finetune.run.beginning import NewRun
    from openchat_local.finetune.run.directory import RunDirectory
    from openchat_local.finetune.run.events import BackgroundEvent, Standstill
    from openchat_local.finetune.run.registry import Entry, Registry
    from openchat_local.finetune.run.supervisor import Training

LOOK_SECONDS = 0.05
TRIES = 100


def main(arguments: list[str]) -> None:
    """Bring the run to its end."""
    if sys.platform != "win32" and os.fork():
        os._exit(0)  # whoever began it has no child to wait for
    from openchat_local.finetune.run.ownership import LOG
    from openchat_local.models.errors import OpenChatError

    path, home, *new = arguments
    said = os.dup(1)
    os.dup2(2, 1)
    try:
        with _taken(Path(path), Path(home)) as (run, registry, entry):
            _say(said, "begun")
            _log_to(run.path / LOG)
            Supervision(run, Path(home), registry, entry, _new_run(run, new)).do()
    except OpenChatError as error:
        _say(said, str(error))
        raise SystemExit(1) from None


@contextmanager
def _taken(path: Path, home: Path) -> Iterator[tuple[RunDirectory, Registry, Entry]]:
    """The run, which this process has in hand within the block. Raises OpenChatError."""
    from openchat_local.finetune.run.background import BackgroundError, entry_of
    from openchat_local.finetune.run.directory import RunDirectory
    from openchat_local.finetune.run.registry import Registry

    run = RunDirectory.open(path)
    entry, registry = entry_of(run, home), Registry(home)
    lock: int | None = None
    try:
        try:
            lock = _lock(registry, entry, home)
            _forget_what_was_asked(path)  # of another process
            registry.add(entry)
        except OSError as error:
            raise BackgroundError(
                f"The run in {path} cannot be noted in {home} ({_reason(error)}): make room or "
                "make it writable, and try again."
            ) from error
        yield run, registry, entry
    finally:
        if lock is not None:
            os.close(lock)


def _lock(registry: Registry, entry: Entry, home: Path) -> int:
    """What keeps others from having a run at work. Raises BackgroundError or OSError."""
    from openchat_local.finetune.run.background import BackgroundError, refuse_second

    for _ in range(TRIES):  # somebody may look at the lock in this very moment
        if (lock := registry.take(entry.id)) is not None:
            return lock
        refuse_second(home)
        time.sleep(0.01)
    raise BackgroundError("Another run is at work in the background: wait for its end.")


def _reason(error: OSError) -> str:
    return "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror or error)


class Supervision:
    """A run brought to its end, whatever that is; what becomes of it is told."""

    def __init__(
        self, run: RunDirectory, home: Path, registry: Registry, entry: Entry, new: NewRun | None
    ) -> None:
        from openchat_local.finetune.run.giving_way import GivesWay

        self._run = run
        self._home = home
        self._registry = registry
        self._entry = entry
        self._new = new
        self._gives_way = GivesWay(home)
        self._learned = run.steps_done > 0
        self._ended = self._dropped = False  # dropped: stopped before anything was learned
        self._telling = threading.Lock()

    def do(self) -> None:
        """Train and install; never raises OpenChatError or OSError: they are the last word."""
        from openchat_local.finetune.run.events import Closed, Failed, Phase
        from openchat_local.finetune.run.run_state import STARTING
        from openchat_local.finetune.run.supervisor import resume_command
        from openchat_local.models.errors import OpenChatError

        with suppress(OSError):
            _mend(self._run.path)
        try:
            self._tell(Phase(STARTING))
            last: BackgroundEvent = Closed(self._entry.name, self._trained())
        except OpenChatError as error:
            last = Failed(type(error).__name__, str(error))
        except OSError as error:
            again = "begin again."
            if self._new is None or self._run.steps_done:
                again = f"go on with: {resume_command(self._run.path)}"
            text = f"What the run tells could not be written ({_reason(error)}): make room; {again}"
            last = Failed("RunError", text)
        if self._dropped:
            kept = "nothing is kept" if self._new else f"as it was, it is in {self._run.path}"
            last = Closed(None, f"It was stopped before anything was learned: {kept}.")
        with suppress(OSError):
            self._tell(last)
        self._clear_away()
        with suppress(OSError):
            _forget_what_was_asked(self._run.path)
        self._close(last)

    def _trained(self) -> str:
        """Train to the end, and install; what the losses say. Raises OpenChatError."""
        from openchat_local.finetune.run.events import Done, StepEvent
        from openchat_local.finetune.run.finishing import Onlooker, finish
        from openchat_local.finetune.run.supervisor import Training

        training = Training(self._run, standing=self._standing)
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(training, over), daemon=True)
        watcher.start()
        try:
            with closing(training.events()) as events:
                for event in events:
                    self._learned |= isinstance(event, StepEvent)
                    self._ended |= isinstance(event, Done)
                    self._tell(event)
        finally:
            over.set()
            watcher.join()
        with self._run.held():
            return finish(self._run, self._home, Onlooker(self._said, self._finishing))

    def _watch(self, training: Training, over: threading.Event) -> None:
        """Stop the training when somebody asks for it."""
        while not over.wait(LOOK_SECONDS):
            if self._asked_to_stop():
                if self._learned:
                    training.stop()
                else:
                    self._dropped = True
                    training.end()
                return

    def _standing(self) -> Standstill | None:
        """Why the training should stand still now: a stop is above a pause."""
        from openchat_local.finetune.run.ownership import PAUSE

        if (self._run.path / PAUSE).exists() and not self._asked_to_stop():
            return "paused"
        return "giving way" if self._gives_way() else None

    def _asked_to_stop(self) -> bool:
        from openchat_local.finetune.run.ownership import STOP

        return (self._run.path / STOP).exists()

    def _said(self, text: str) -> None:
        from openchat_local.finetune.run.events import NoticeEvent

        self._tell(NoticeEvent(self._run.steps_done, text))

    def _finishing(self, name: str, share: float) -> None:
        """Between two answers for the report: a reply that somebody waits for comes first."""
        from openchat_local.finetune.run.events import Halted, Phase, WentOn
        from openchat_local.finetune.run.finishing import EnoughAnswers

        began, told = time.monotonic(), None
        while (why := self._standing()) is not None:
            if why != told:
                self._tell(Halted(why))
            told = why
            time.sleep(LOOK_SECONDS)
        if told is not None:
            self._tell(WentOn(time.monotonic() - began))
        if self._asked_to_stop():
            raise EnoughAnswers
        self._tell(Phase(name, share))

    def _tell(self, event: BackgroundEvent) -> None:
        """Add a line to events.jsonl. Raises OSError."""
        from openchat_local.finetune.run.ownership import EVENTS
        from openchat_local.finetune.run.wire import pack_event

        line = json.dumps(pack_event(event)).encode() + b"\n"
        with self._telling, (self._run.path / EVENTS).open("ab", buffering=0) as file:
            length = file.tell()
            try:
                while line:
                    line = line[file.write(line) :]
            except OSError:
                file.truncate(length)  # half a line would spoil the next one
                raise

    def _clear_away(self) -> None:
        """Leave nothing of a run that broke off before it learned anything."""
        from openchat_local.models.errors import OpenChatError

        if self._new is None or self._ended:
            return
        with suppress(OSError, OpenChatError):  # what stays does no harm: `finetune runs` lists it
            if not self._run.steps_done:
                _log_to(Path(os.devnull))
                self._new.discard()

    def _close(self, last: BackgroundEvent) -> None:
        from openchat_local.finetune.run.events import Closed, Failed

        match last:
            case Closed(_, sentence):
                entry = replace(self._entry, sentence=sentence)
            case Failed(_, text):
                entry = replace(self._entry, problem=text)
            case _:
                return
        with suppress(OSError):  # its events tell as much, where they are left
            self._registry.close(entry)


def _new_run(run: RunDirectory, arguments: list[str]) -> NewRun | None:
    from openchat_local.finetune.run.beginning import NewRun

    if not arguments:
        return None
    id, replaced, made, *spare = arguments
    folders = (run.path, *run.path.parents)[: int(made)]
    return NewRun(run, id, Path(replaced) if replaced else None, folders, frozenset(spare))


def _say(descriptor: int, text: str) -> None:
    """A line to whoever began the run, who may be gone."""
    with suppress(OSError):
        os.write(descriptor, text.encode() + b"\n")
    with suppress(OSError):
        os.close(descriptor)


def _log_to(path: Path) -> None:
    """What native code and bugs write goes to a file from now on."""
    with suppress(OSError):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(log, 2)
        os.dup2(log, 1)
        os.close(log)


def _forget_what_was_asked(run: Path) -> None:
    from openchat_local.finetune.run.ownership import PAUSE, STOP

    for name in (PAUSE, STOP):
        (run / name).unlink(missing_ok=True)


def _mend(run: Path) -> None:
    """Cut off the line of events.jsonl that a kill or a power cut has left half."""
    from openchat_local.finetune.run.ownership import EVENTS

    with (run / EVENTS).open("rb+") as file:
        text = file.read()
        file.truncate(text.rfind(b"\n") + 1)


if __name__ == "__main__":
    main(sys.argv[1:])
