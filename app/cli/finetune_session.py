"""A training run at the terminal: watched, stopped by Ctrl-C, its adapter installed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.cli.finetune_display import Display
    from openchat_local.finetune.run.beginning import NewRun
    from openchat_local.finetune.run.directory import RunDirectory
    from openchat_local.finetune.run.events import Outcome, RunEvent
    from openchat_local.finetune.run.supervisor import Training

ANSWER_SECONDS = 90.0


def watch(
    run: RunDirectory, *, new: NewRun | None = None, dry: bool = False, replace: bool = False
) -> None:
    """Train `run`, which this process began where there is a `new`, and install its adapter,
    in place of another's of its name only with `replace`.

    Where nothing was learned, everything is as it was before. Raises OpenChatError.
    """
    from openchat_local.app.cli.finetune_display import Display
    from openchat_local.finetune.run.events import Done
    from openchat_local.finetune.run.supervisor import Training

    training = Training(run, dry=dry)
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
    from openchat_local.finetune.run.beginning import drop_replaced
    from openchat_local.finetune.run.report import write_report
    from openchat_local.finetune.run.verdict import training_loss_rose, verdict
    from openchat_local.models.system.shell import command

    metrics = list(run.metrics())
    if training_loss_rose(metrics):
        report = write_report(run)
        display.say(f"Look at it: {report}")
        name = run.settings()["name"]
        raise OpenChatError(
            f"{verdict(metrics)} The adapter was not installed: try a lower --learning-rate, or "
            f"install it anyway: {command('adapters', 'add', run.path, '--name', name)}"
        )
    adapter = _install(run, replace=replace)
    drop_replaced(run)
    settings = run.settings()
    try:
        with presses.ending_at_once():
            settings["answers"] = _answers(settings, adapter, display)
        run.write_settings(settings)
    except OpenChatError as error:
        display.say(f"No answers in the report: {error}")
    except KeyboardInterrupt:
        display.say("No answers in the report: stopped.")
    report = write_report(run)
    display.say(verdict(metrics))
    display.say(f"Chat with it: {command('chat', '--adapter', settings['name'])}")
    display.say(f"Look at it: {report}")


def _install(run: RunDirectory, *, replace: bool) -> Path:
    """The installed adapter of a run. Raises AdapterError where another has its name."""
    from openchat_local.app.engine import installed_adapters
    from openchat_local.app.paths import data_home
    from openchat_local.finetune.run.known import noted_place
    from openchat_local.models.errors import AdapterError
    from openchat_local.models.system.shell import command

    settings, library = run.settings(), installed_adapters()
    name = settings["name"]
    replace |= bool(settings.get("replace"))
    if name in library.names() and not replace:
        # Only the run's own adapter, from before it was resumed, is replaced without being asked.
        owner = library.facts(name).get("run")
        if owner is None or owner != settings.get("id"):
            other = command("adapters", "add", run.path, "--name", f"{name}-2")
            raise AdapterError(
                f"There is an adapter named {name} by now, which is not of this run: the new one "
                f"is in {run.path}; install it under another name, for example: {other}"
            )
    known = ("id", "settings", "classes", "base", "outcome", "versions")
    facts = {"run" if key == "id" else key: settings[key] for key in known if key in settings}
    facts["run_folder"] = noted_place(run.path, data_home())
    peft = run.path / "adapter"
    adapter = library.add(
        name,
        run.path / "adapter.gguf",
        peft=peft if peft.is_dir() else None,
        facts=facts,
        replace=True,
    )
    return adapter.path


def _answers(settings: dict[str, Any], adapter: Path, display: Display) -> list[dict[str, Any]]:
    from openchat_local.finetune.run.answers import compare_answers
    from openchat_local.models.engine.local import LocalEngine
    from openchat_local.models.engine.protocol import EngineOptions

    options = EngineOptions(
        Path(settings["base"]["path"]), context=2048, template=settings["settings"]["template"]
    )
    conditions = list(dict.fromkeys(rule["condition"] for rule in settings["classes"]))
    with closing(LocalEngine(options)) as engine:
        return compare_answers(
            engine, adapter, settings["prompts"], conditions, seconds=ANSWER_SECONDS,
            on_progress=lambda done: display.phase("answering before and after", done),
        )  # fmt: skip
