"""A training run at the terminal: watched, stopped by Ctrl-C, its adapter installed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from openchat_local.app.cli.finetune_display import Display
    from openchat_local.finetune.run.beginning import NewRun
    from openchat_local.finetune.run.directory import RunDirectory
    from openchat_local.finetune.run.events import Outcome, RunEvent
    from openchat_local.finetune.run.supervisor import Training


def watch(
    run: RunDirectory, *, new: NewRun | None = None, dry: bool = False, replace: bool = False
) -> None:
    """Train `run`, which this process began where there is a `new`, and install its adapter,
    in place of another's of its name only with `replace`.

    Where nothing was learned, everything is as it was before. Raises OpenChatError.
    """
    from openchat_local.app.cli.finetune_display import Display
    from openchat_local.app.paths import data_home
    from openchat_local.finetune.run.events import Done
    from openchat_local.finetune.run.giving_way import giving_way_in
    from openchat_local.finetune.run.supervisor import Training

    training = Training(run, dry=dry, standing=giving_way_in(data_home()))
    outcome: Outcome | None = None
    try:
        with Display() as display, Presses(training, display).heard() as presses:
            try:
                with closing(training.events()) as events:
                    for event in events:
                        presses.see(event)
                        display.show(event)
                        if isinstance(event, Done):
                            outcome = event.outcome
            except KeyboardInterrupt:
                display.say(_what_is_left(run, new, dry=dry))
                raise
            if outcome is not None:
                finish(run, display, presses, replace=replace)
    finally:
        if new is not None:
            _clear_away(new, ended=outcome is not None)


def _what_is_left(run: RunDirectory, new: NewRun | None, *, dry: bool) -> str:
    from openchat_local.finetune.run.supervisor import resume_command

    if dry:
        return "Stopped: nothing was written."
    steps = run.steps_done
    if not steps and new is not None:
        return "Stopped before a step was kept: nothing was learned, and nothing is kept."
    return f"Stopped; step {steps:,} is kept. Continue with: {resume_command(run.path)}"


def _clear_away(new: NewRun, *, ended: bool) -> None:
    """Leave nothing of a run that broke off before it learned anything, and say where things
    are otherwise."""
    try:
        if not ended and not new.run.steps_done:
            new.discard()
        elif new.replaced is not None and new.replaced.exists():
            kept = f"The run before this one is kept in {new.replaced} until this one is installed."
            click.echo(kept, err=True)
    except OSError as error:
        click.echo(f"{new.run.path} cannot be cleared away ({error}): do it by hand.", err=True)


class Presses:
    """What Ctrl-C does: end at once while there is nothing to keep, else stop after the step
    and keep the adapter, and end at once at the second."""

    def __init__(self, training: Training, display: Display) -> None:
        self._training = training
        self._display = display
        self._learning = False  # a step was made since this process began
        self._asked = self._ended = self._installing = False

    def see(self, event: RunEvent) -> None:
        """An event of the run."""
        from openchat_local.finetune.run.events import Done, StepEvent

        self._learning |= isinstance(event, StepEvent)
        self._installing |= isinstance(event, Done)

    @contextmanager
    def heard(self) -> Iterator[Presses]:
        before = signal.signal(signal.SIGINT, self._pressed)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def ending_at_once(self) -> Iterator[None]:
        """Within the block, a press interrupts it."""
        self._installing, self._asked, self._ended = False, True, False
        try:
            yield
        finally:
            self._installing = True

    def _pressed(self, number: int, frame: Any) -> None:
        if self._installing or self._ended:
            return  # what is left takes a moment, and half of it is of no use
        if self._asked or not self._learning:
            self._ended = True
            raise KeyboardInterrupt
        self._asked = True
        self._training.stop()
        self._display.say(
            "Stopping after this step; the adapter is kept. Ctrl-C again ends at once."
        )


def finish(run: RunDirectory, display: Display, presses: Presses, *, replace: bool) -> None:
    """Install the adapter unless it got worse, answer the prompts with it, write the report."""
    from openchat_local.app.paths import data_home
    from openchat_local.finetune.run import finishing

    onlooker = finishing.Onlooker(display.say, display.phase, presses.ending_at_once)
    finishing.finish(run, data_home(), onlooker, replace=replace)
