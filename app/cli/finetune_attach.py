"""`finetune attach`: look at a run in the background, pause or stop it; leaving it, it goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.cli.finetune_display import Display
    from openchat_local.finetune.run.background import BackgroundRun
    from openchat_local.finetune.run.run_state import RunState

LOOK_SECONDS = 0.2


@click.command(short_help="Look at a run that trains in the background, pause or stop it.")
@click.argument("name", required=False)
@click.option("--pause", "do", flag_value="pause", help="Let it stand still instead.")
@click.option("--go-on", "do", flag_value="go on", help="Let it go on after --pause instead.")
@click.option("--stop", "do", flag_value="stop", help="End it and keep its adapter instead.")
def attach(name: str | None, do: str | None) -> None:
    """Look at the run NAME that trains in the background, or at the one that is at work.

    Ctrl-C leaves it alone: it goes on.
    """
    run = _named(name)
    match do:
        case "pause":
            run.pause()
            click.echo(f"{run.name} stands still until: {_command(run, '--go-on')}", err=True)
        case "go on":
            run.go_on()
        case "stop":
            run.stop()
            click.echo(f"{run.name} ends soon, and what it learned is kept.", err=True)
        case _:
            _look(run)


def tell_begun(run: BackgroundRun) -> None:
    """Say that the run goes on by itself, and how to look at it."""
    click.echo(f"{run.name} is being trained in the background; this terminal may be closed.")
    click.echo(f"Look at it: {_command(run)}")


def in_words(state: RunState) -> str:
    """How a run in the background stands, in a few words."""
    from openchat_local.models.units import time_in_words

    if not state.at_work:
        return f"in the background: {state.phase}"
    how_far = f", step {state.step:,} of {state.steps:,}" if state.steps else ""
    left = state.seconds_left
    about = "" if left is None else f", about {time_in_words(left)} left"
    return f"in the background: {state.phase}{how_far}{about}"


def _command(run: BackgroundRun, *flags: str) -> str:
    from openchat_local.models.system.shell import command

    return command("finetune", "attach", run.name, *flags)


def _named(name: str | None) -> BackgroundRun:
    from openchat_local.app.paths import data_home
    from openchat_local.finetune.run.background import background_runs, run_at_work

    found = background_runs(data_home())
    if name is None:
        run = run_at_work(data_home()) or (found[0] if len(found) == 1 else None)
    else:
        run = next((one for one in found if one.name == name), None)
    if run is None:
        names = ", ".join(one.name for one in found)
        raise OpenChatError(
            f"No run {'' if name is None else f'named {name!r} '}is in the background "
            f"({names or 'none is'}): begin one with finetune FILE --background, or list all "
            "with finetune runs."
        )
    return run


def _look(run: BackgroundRun) -> None:
    from openchat_local.app.cli.finetune_display import Display

    with Display() as display:
        try:
            state = _follow(run, display)
            if state.outcome is None and state.phase == "ended":
                display.say(state.sentence)
        except KeyboardInterrupt:
            display.say(f"{run.name} goes on by itself; look again: {_command(run)}")
            return
    if state.phase == "interrupted":
        from openchat_local.finetune.run.supervisor import resume_command

        raise OpenChatError(f"{state.sentence} {resume_command(run.path)} --background")
    run.seen()
    if state.problem is not None:
        raise OpenChatError(state.problem)


def _follow(run: BackgroundRun, display: Display) -> RunState:
    """Show what it tells until it ends; how it stands then."""
    since = 0
    while True:
        state = run.state()  # asked first: all that is told by then is shown
        events, since = run.events(since)
        for event in events:
            display.show(event)
        if not state.at_work:
            return state
        time.sleep(LOOK_SECONDS)
