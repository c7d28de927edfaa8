"""`adapters use`, `rollback`, `judge`, `scale`, `standings`: adapters as versions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.completing import complete_adapter, complete_model
from openchat_local.app.cli.options import insist
from openchat_local.app.printable import one_line
from openchat_local.app.wording import counted, local_time, write_json

if TYPE_CHECKING:
    from openchat_local.app.learning.adoption import Change
    from openchat_local.app.learning.versions import Version


@click.command()
@click.argument("name", metavar="NAME|none", shell_complete=complete_adapter)
@click.option("-y", "--yes", is_flag=True, help="Also where it scored worse; do not ask.")
def use(name: str, yes: bool) -> None:
    """Have new chats answer with the adapter NAME; with none, the model as it is.

    It is written into the settings file. `adapters rollback` brings back what was before.
    """
    from openchat_local.app.learning.versions import ScoredWorse, adopt, overruled

    try:
        change = adopt(name, even_if_worse=yes)
    except ScoredWorse as problem:
        insist(one_line(f"{problem} Adopt it?"), "Nothing was changed.")
        change = adopt(name, even_if_worse=True)
    click.echo(in_words(change))
    if sentence := overruled():
        click.echo(sentence, err=True)


@click.command()
def rollback() -> None:
    """Bring back what answered in new chats before the last `adapters use`."""
    from openchat_local.app.learning.versions import overruled, roll_back

    click.echo(in_words(roll_back()))
    if sentence := overruled():
        click.echo(sentence, err=True)


@click.command()
@click.argument("name", shell_complete=complete_adapter)
@click.option(
    "-m",
    "--model",
    metavar="NAME|FILE",
    help="The model that the adapter was trained on.",
    shell_complete=complete_model,
)
@click.option(
    "--minutes",
    type=click.FloatRange(0.05, 600),
    default=1.5,
    show_default=True,
    help="About how long to measure.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def judge(name: str, model: str | None, minutes: float, as_json: bool) -> None:
    """Measure whether the adapter NAME is any good, and whether it made the model forget.

    Held-out answers of its own training tell the one; a suite of questions that was fetched
    (`eval suites pull`), else twenty everyday questions, tell the other. It is kept with the
    adapter.
    """
    from dataclasses import replace

    from openchat_local.app.cli.progress import Bar
    from openchat_local.app.engine import engine_options, installed_adapters
    from openchat_local.app.learning.judging import judge as measured
    from openchat_local.app.learning.versions import in_use
    from openchat_local.app.settings.model import load_settings
    from openchat_local.models.engine.local import LocalEngine

    installed_adapters().existing(name)
    settings = load_settings({"model": model}).model_copy(update={"adapter": None})
    options = replace(engine_options(settings), states_dir=None)  # nothing of it is kept on disk
    with closing(LocalEngine(options)) as engine, Bar("judging", 1.0) as bar:
        findings = measured(
            name, engine, former=in_use(), seconds=60 * minutes,
            tell=lambda stage: bar.show(stage.fraction, label=stage.what),
        )  # fmt: skip
    if as_json:
        write_json(findings.as_json())
        return
    for sentence in findings.sentences:
        click.echo(one_line(sentence))


@click.command()
@click.argument("name", shell_complete=complete_adapter)
@click.argument("scale", type=float)
def scale(name: str, scale: float) -> None:
    """Multiply the effect of the adapter NAME by SCALE: 1 is as trained, less is less of it."""
    from openchat_local.app.learning.versions import set_scale

    set_scale(name, scale)
    click.echo(one_line(f"The effect of {name} is multiplied by {scale:g} from now on."))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON, one side a line.")
def standings(as_json: bool) -> None:
    """Show who won the blind comparisons: votes, and how strong each side is, with intervals.

    The share is of answers that would be preferred to those of an average one of them (Bradley
    and Terry's model); the interval holds the true one in 95 of 100 cases.
    """
    from openchat_local.app.learning.arena import all_votes, arena

    found = arena(all_votes())
    width = max((len(found.names[one.label]) for one in found.standings), default=0)
    for one in found.standings:
        name, (low, high) = found.names[one.label], one.share_interval
        if as_json:
            write_json(
                {
                    "name": name, "wins": one.wins, "losses": one.losses, "ties": one.ties,
                    "strength": one.strength, "interval": one.interval,
                    "share": one.share, "share_interval": one.share_interval, "group": one.group,
                }
            )  # fmt: skip
        else:
            counts = f"{one.wins} won, {one.losses} lost, {one.ties} tied"
            line = f"{name:<{width}}  {one.share:>4.0%} ({low:.0%} to {high:.0%})  {counts}"
            click.echo(one_line(line))
    for sentence in found.sentences:
        click.echo(one_line(sentence), err=as_json)


def in_words(change: Change) -> str:
    """What answers in new chats now, and what did before."""
    if change.before == change.now:
        return one_line(f"{_answering(change.now)} answers in new chats already.")
    text = f"{_answering(change.now)} answers in new chats from now on; before, it was "
    text += f"{_answering(change.before)[0].lower()}{_answering(change.before)[1:]}."
    if change.skipped:
        text += f" Deleted since, and passed over: {', '.join(change.skipped)}."
    return one_line(text)


def _answering(name: str) -> str:
    return "The model without an adapter" if name == "none" else f"The adapter {name}"


def version_facts(version: Version) -> dict[str, Any]:
    """What `adapters list` and `info` add in JSON."""
    found = version.findings
    return {
        "in_use": version.in_use,
        "origin": version.origin,
        "parent": version.parent,
        "scale": version.scale,
        "trained_on": {
            "conversations": dict(version.trained_on.counts),
            "chats": version.trained_on.chats,
            "since": version.trained_on.since,
            "until": version.trained_on.until,
        },
        "adopted_at": version.adopted_at,
        "votes": {
            "wins": version.votes.wins,
            "losses": version.votes.losses,
            "ties": version.votes.ties,
        },
        "findings": None if found is None else found.as_json(),
        "report": None if version.report is None else str(version.report),
    }


def version_in_brief(version: Version) -> str:
    """What follows the adapter in its line of `adapters list`, "" for nothing."""
    parts = []
    if version.origin is not None:
        parts.append(f"from {version.origin}")
    if version.findings is not None:
        parts.append(version.findings.in_brief)
    if version.votes.count:
        parts.append(f"{version.votes.wins} of {counted(version.votes.count, 'vote')}")
    if version.scale != 1:
        parts.append(f"scale {version.scale:g}")
    if version.in_use:
        parts.append("in use")
    return "".join(f", {part}" for part in parts)


def _gone(version: Version) -> str:
    return ", which is not here any more" if version.origin and not version.parent else ""


def version_lines(version: Version) -> Iterator[str]:
    """The same for a person, a line each, for `adapters info`."""
    yield f"in use: {'yes, in new chats' if version.in_use else 'no'}"
    yield f"trained from: {version.origin or 'the model as it is'}{_gone(version)}"
    on = version.trained_on
    if on.counts:
        counts = ", ".join(f"{count:,} {name}" for name, count in on.counts.items())
        of = f", of {counted(on.chats, 'chat')}" if on.chats is not None else ""
        yield f"trained on: {counts}{of}"
    if version.scale != 1:
        yield f"scale: {version.scale:g}"
    if version.adopted_at is not None:
        yield f"adopted: {local_time(version.adopted_at)}"
    votes = version.votes
    if votes.count:
        yield f"votes: chosen {votes.wins}, the other {votes.losses}, neither {votes.ties}"
    if version.findings is None:
        yield f"scores: not measured; openchat-local adapters judge {version.name} does that"
    else:
        yield from (f"scores: {sentence}" for sentence in version.findings.sentences)
    if version.report is not None:
        yield f"report: {version.report}"
