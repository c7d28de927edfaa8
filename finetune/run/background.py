"""Training that lives by itself: begun by a window, and found again by every other.

A process of its own drives the run and installs its adapter (`background_process`); it
outlives the window, and what it tells is in the run's events.jsonl. Whoever wants to pause or
stop it puts an empty file beside that, which the process looks for many times a second: what
was asked holds, whoever dies meanwhile.

Nothing heavy is imported here before a run begins or its events are read.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from openchat_local.finetune.run.ownership import EVENTS, LOG, PAUSE, STOP
from openchat_local.finetune.run.registry import Entry, Registry
from openchat_local.finetune.run.run_state import RunState, Tally, as_frame
from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.child_process import own_process_group, python_module
from openchat_local.models.system.shell import command

if TYPE_CHECKING:
    from openchat_local.finetune.run.beginning import NewRun
    from openchat_local.finetune.run.directory import RunDirectory
    from openchat_local.finetune.run.events import BackgroundEvent

MODULE = "openchat_local.finetune.run.background_process"
BEGUN = b"begun"  # what the process says when the run is its own
_LAST_WORDS = 2048  # bytes


class BackgroundError(OpenChatError):
    """A run cannot be begun in the background, or not be steered."""


class BackgroundRun:
    """A run in the background, seen from any process; safe to use from several threads."""

    def __init__(self, entry: Entry, home: Path) -> None:
        self.id = entry.id
        self.name = entry.name
        self.begun = entry.begun
        self.path = Registry(home).path_of(entry)
        self._entry = entry
        self._registry = Registry(home)
        self._home = home
        self._tally = Tally()
        self._counted = 0
        self._lock = threading.Lock()

    def state(self) -> RunState:
        """How it stands now."""
        with self._lock:
            # Asked before what was told is read: whoever ends has told everything by then.
            alive = self._registry.at_work() == self.id
            self._entry = self._registry.entry(self.id) or self._entry
            alive = alive and not self._entry.ended  # another is at work, and has not said so yet
            lines, self._counted = _lines(self.path / EVENTS, self._counted)
            for line in lines:
                self._tally.add(line)
            told = self._tally.state(stopping=(self.path / STOP).exists())
            return told if alive else self._ended(told)

    def events(self, since: int = 0) -> tuple[list[BackgroundEvent], int]:
        """What it has told after the first `since` bytes, and what to ask with the next time.

        A run that was resumed makes the steps after its checkpoint again: `Ready.step` says
        where it goes on, and what came after that step before does not count.
        """
        from openchat_local.finetune.run.wire import unpack_told

        lines, since = _lines(self.path / EVENTS, since)
        return [unpack_told(frame) for line in lines if (frame := as_frame(line))], since

    def pause(self) -> None:
        """Let it stand still until `go_on`. Raises BackgroundError."""
        self._ask(PAUSE)

    def go_on(self) -> None:
        """Let it go on after `pause`; harmless if it does. Raises BackgroundError."""
        self._ask_no_more(PAUSE)

    def stop(self) -> None:
        """Let it end after its step and keep the best adapter; where nothing was learned yet,
        nothing is kept. Harmless if it has ended. Raises BackgroundError."""
        self._ask(STOP)

    def resume(self) -> None:
        """Go on from the last checkpoint after it was interrupted, stopped, or has failed.
        Raises BackgroundError, also where a run is at work."""
        resume_in_background(self.path, home=self._home)

    def seen(self) -> None:
        """Its end is known, and `background_runs` need not tell of it any more; harmless while it
        is at work."""
        entry = self._registry.entry(self.id)
        if entry is not None and (entry.ended or self._registry.at_work() != self.id):
            with suppress(OSError):  # it is told again
                self._registry.forget(self.id)

    def _ended(self, told: RunState) -> RunState:
        """The state when no process has it in hand."""
        from dataclasses import replace

        entry, last = self._entry, self._tally.last
        if entry.problem is not None or (last is not None and last["type"] == "Failed"):
            problem = entry.problem or str(last and last["text"])
            return replace(told, phase="failed", sentence=problem, problem=problem)
        if entry.sentence is not None or last is not None:
            sentence = entry.sentence or str(last and last["sentence"])
            return replace(told, phase="ended", sentence=sentence)
        if not self._is_there():
            return replace(told, phase="ended", sentence=f"The run {self.name} was removed.")
        why = _last_line(self.path / LOG)
        sentence = (
            f"It broke off after step {told.step:,} ({why or 'its process is gone'}): resume it, "
            "and it goes on from what was kept."
        )
        return replace(told, phase="interrupted", seconds_left=None, sentence=sentence)

    def _is_there(self) -> bool:
        """Whether its folder is still its own: it may have been removed, or replaced."""
        try:
            stored = json.loads((self.path / "run.json").read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(stored, dict) and stored.get("id") == self.id

    def _ask(self, name: str) -> None:
        if not self.path.is_dir():
            return  # it has ended, and left nothing
        try:
            (self.path / name).touch(mode=0o600)
        except OSError as error:
            raise BackgroundError(
                f"The run {self.name} cannot be told in {self.path} ({error.strerror}): make room "
                "or make it writable, and try again."
            ) from error

    def _ask_no_more(self, name: str) -> None:
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise BackgroundError(
                f"{self.path / name} cannot be removed ({error.strerror}): delete it by hand."
            ) from error


def begin_in_background(new: NewRun, *, home: Path) -> BackgroundRun:
    """Train `new`, which this process has begun, in a process of its own that installs the
    adapter in `home` at its end.

    Raises BackgroundError where another run is at work, or the process cannot be started:
    everything is then as it was before the run was begun.
    """
    try:
        return _start(new.run, home, new)
    except OpenChatError:  # nobody has it in hand
        with suppress(OSError):
            new.discard()
        raise


def resume_in_background(path: Path, *, home: Path) -> BackgroundRun:
    """Go on with the run in `path` in the background. Raises BackgroundError or RunError."""
    from openchat_local.finetune.run.directory import RunDirectory

    return _start(RunDirectory.open(path), home, None)


def background_runs(home: Path) -> list[BackgroundRun]:
    """Those at work, and those whose end nobody has `seen`; the newest first. What was removed
    since, or replaced by another run, is forgotten."""
    found = []
    for entry in Registry(home).entries():
        run = BackgroundRun(entry, home)
        if entry.ended or run._is_there():
            found.append(run)
        else:
            run.seen()
    return found


def take_over(path: Path, home: Path) -> None:
    """A terminal trains the run in `path` from here on. Raises BackgroundError while a process in
    the background has it in hand."""
    for run in background_runs(home):
        if run.path.resolve() == path.resolve():
            if run.state().at_work:
                refuse_second(home)
            run.seen()


def run_at_work(home: Path) -> BackgroundRun | None:
    """The one that a living process has in hand."""
    id = Registry(home).at_work()
    entry = None if id is None else Registry(home).entry(id)
    return None if entry is None or entry.ended else BackgroundRun(entry, home)


def refuse_second(home: Path) -> None:
    """Raise BackgroundError, which names it, where a run is at work in the background."""
    first = run_at_work(home)
    if first is not None:
        state = first.state()
        how_far = f", at step {state.step:,} of {state.steps:,}" if state.steps else ""
        raise BackgroundError(
            f"{first.name} is being trained in the background{how_far}, and one run is at a time: "
            f"wait for its end, or look at it: {command('finetune', 'attach', first.name)}"
        )


def _start(run: RunDirectory, home: Path, new: NewRun | None) -> BackgroundRun:
    """Start the process, and wait until the run is its own."""
    refuse_second(home)
    entry = entry_of(run, home)
    try:
        said = _begun(python_module(MODULE, *_arguments(run, home, new)), home)
    except OSError as error:
        raise BackgroundError(
            f"The run in {run.path} cannot be begun ({error.strerror or error}): try again, or "
            "train in this terminal."
        ) from error
    if said != BEGUN:
        refuse_second(home)
        raise BackgroundError(said.decode("utf-8", "replace") or "The run's process ended at once.")
    return BackgroundRun(entry, home)


def entry_of(run: RunDirectory, home: Path) -> Entry:
    """What is noted of a run that begins or goes on. Raises RunError."""
    from openchat_local.finetune.run.known import noted_place

    stored = run.stored()
    begun = float(stored.get("begun") or 0.0)
    return Entry(stored["id"], stored["name"], noted_place(run.path, home), begun)


def _arguments(run: RunDirectory, home: Path, new: NewRun | None) -> list[str]:
    arguments = [str(run.path.absolute()), str(home.absolute())]
    if new is not None:
        arguments += [new.id, str(new.replaced or ""), str(len(new.made)), *sorted(new.spare)]
    return arguments


def _begun(command: list[str], home: Path) -> bytes:
    """Start the process; its first line, or the last of what it wrote before it died. Raises
    OSError."""
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
            cwd=home,  # nobody's: a folder that is somebody's could not be unmounted
            **own_process_group(),
        )
        with cast("BinaryIO", process.stdout) as stdout:
            said = stdout.readline().rstrip()
        if os.name != "nt":  # it has made another one, which is nobody's child
            process.wait()
        words.seek(0)
        return said or _last_of(words.read()).encode()


def _lines(path: Path, since: int) -> tuple[list[bytes], int]:
    """The whole lines of a file after its first `since` bytes, and where they end."""
    try:
        with path.open("rb") as file:
            file.seek(since)
            text = file.read()
    except FileNotFoundError:
        return [], since
    whole = text[: text.rfind(b"\n") + 1]
    return whole.splitlines(), since + len(whole)


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST_WORDS))
            return _last_of(file.read())
    except OSError:
        return ""


def _last_of(text: bytes) -> str:
    lines: Iterator[str] = reversed(text.decode("utf-8", "replace").splitlines())
    return next((line.strip()[:200] for line in lines if line.strip()), "")
