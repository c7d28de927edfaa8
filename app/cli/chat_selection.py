"""Options that say which chats are learned from, and what is told of the rest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from openchat_local.app.cli.completing import complete_chat, complete_model
from openchat_local.app.printable import one_line

if TYPE_CHECKING:
    from openchat_local.app.chats import ChatStore
    from openchat_local.app.learning.selecting import Selection

Command = TypeVar("Command", bound=Callable[..., Any])
MOST_DAYS = 100_000
DAY = 86_400  # seconds
THINKING = "--thinking"
NAMES = ("since", "until", "tags", "search", "by_model", "chats", "imported", "thinking")
CUT = "cut_replies"


def _since(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    return None if text is None else _moment(text, timedelta())


def _until(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """The end of a day, where a day is the last one."""
    return None if text is None else _moment(text, timedelta(days=1))


def _moment(text: str, after_a_day: timedelta) -> float:
    """So many days before now, or a date: in seconds since the epoch."""
    try:
        days = float(text)
    except ValueError:
        return _of_date(text.strip(), after_a_day)
    if not (math.isfinite(days) and 0 <= days <= MOST_DAYS):
        raise click.BadParameter(f"{text!r} is not a number of days from 0 to {MOST_DAYS:,}.")
    return time.time() - days * DAY


def _of_date(text: str, after_a_day: timedelta) -> float:
    try:
        when = datetime.fromisoformat(text)
        if len(text) <= len("2026-01-31"):  # without a time of day
            when += after_a_day
        return when.timestamp()
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{text!r} is neither a number of days nor a date such as 2026-01-31."
        ) from None


thinking_option = click.option(
    THINKING, is_flag=True, help="Learn the thoughts that replies open with, too."
)


def selection_options(by_model: str) -> Callable[[Command], Command]:
    """Options that `take_selection` understands; `by_model` is the flag that names the model
    which answered in a chat."""
    options = (
        click.option(
            "--since",
            metavar="DAYS|DATE",
            callback=_since,
            help="Chats used in the last DAYS, or since DATE.",
        ),
        click.option(
            "--until",
            metavar="DAYS|DATE",
            callback=_until,
            help="Chats used last before that, or on that DATE.",
        ),
        click.option(
            "--tag", "tags", multiple=True, metavar="TAG", help="Chats with this tag; repeatable."
        ),
        click.option("--search", default="", metavar="WORDS", help="Chats with all these words."),
        click.option(
            by_model,
            "by_model",
            metavar="NAME",
            help="Chats in which this model answered.",
            shell_complete=complete_model,
        ),
        click.option(
            "--chat",
            "chats",
            multiple=True,
            metavar="CHAT",
            help="Only this chat; repeatable.",
            shell_complete=complete_chat,
        ),
        click.option("--imported", is_flag=True, help="Also chats that other programs wrote."),
        click.option("--cut-replies", is_flag=True, help="Learn replies that were cut, too."),
        thinking_option,
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def given_selection(ctx: click.Context) -> list[str]:
    """Which of the options above are on the command line, as they are called; `--cut-replies`
    means something without the others."""
    return [
        parameter.opts[0]
        for parameter in ctx.command.params
        if parameter.name in NAMES
        and ctx.get_parameter_source(parameter.name) == ParameterSource.COMMANDLINE
    ]


def take_selection(flags: dict[str, Any], store: ChatStore) -> Selection:
    """Remove the options above from `flags`. Raises ChatNotFound for a chat that is not there."""
    from openchat_local.app.learning.selecting import Selection

    taken = {name: flags.pop(name) for name in (*NAMES, CUT)}
    chats = [store.find_chat(part).id for part in taken["chats"]]
    return Selection(
        since=taken["since"],
        until=taken["until"],
        tags=frozenset(tag.removeprefix("#") for tag in taken["tags"]),
        search=taken["search"],
        model=taken["by_model"],
        only=frozenset(chats) if chats else None,
        imported=taken["imported"],
        thinking=taken["thinking"],
        cut_replies=taken[CUT],
    )


def tell(sentences: Iterable[str]) -> None:
    """Say these beside the output."""
    for sentence in sentences:
        click.echo(one_line(f"• {sentence}"), err=True)
