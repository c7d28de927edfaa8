"""`models pull`: the one command that uses the network by itself."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from openchat_local.app.cli.completing import complete_fetchable
from openchat_local.app.printable import one_line
from openchat_local.app.wording import download_in_words, transfer_in_words
from openchat_local.models.units import size_in_words

if TYPE_CHECKING:
    from openchat_local.app.cli.progress import Bar
    from openchat_local.models.hub.download import Progress
    from openchat_local.models.hub.pull import Event
    from openchat_local.models.library.found import FoundModel

_LINE_SECONDS = 10.0  # between two lines where nobody looks, such as a log file


@click.command()
@click.argument(
    "name",
    metavar="NAME[:QUANTISATION]|hf:OWNER/REPOSITORY[/FILE]",
    shell_complete=complete_fetchable,
)
@click.option("--name", "called", metavar="NAME", help="What to call it here.")
def pull(name: str, called: str | None) -> None:
    """Fetch a model from the Hugging Face hub, and verify it.

    Without a quantisation, the one that suits this machine. A download that was cut off goes
    on where it stopped when the same command is given again. HF_TOKEN, HF_ENDPOINT (a mirror)
    and HTTPS_PROXY are honoured.
    """
    from openchat_local.app.engine import installed_models
    from openchat_local.app.paths import ensure_home
    from openchat_local.app.settings.model import load_settings_forgivingly
    from openchat_local.models.hub.client import Hub
    from openchat_local.models.hub.pull import pull as pull_model
    from openchat_local.models.hub.reference import parse_wanted

    wanted = parse_wanted(name)
    kv_type = load_settings_forgivingly()[0].kv.type
    hub = Hub()
    ensure_home()
    screen = _Screen()
    try:
        model = pull_model(
            hub, wanted, installed_models(), screen.tell,
            name=called, link_instead=_link_instead, kv_type=kv_type,
        )  # fmt: skip
    except KeyboardInterrupt:
        screen.end()
        click.echo("Stopped; the same command continues from there.", err=True)
        raise
    finally:
        screen.end()
    card = model.card
    came = "is installed and verified" if screen.fetched else "is there"
    click.echo(f"{card.reference} {came}: openchat-local chat -m {card.reference}")


def _link_instead(found: FoundModel) -> bool:
    """Ask at a terminal; elsewhere say how it would be done, and fetch."""
    where = f"{found.program} has this file already ({found.path})"
    if sys.stdin.isatty() and sys.stderr.isatty():
        size = size_in_words(found.bytes)
        return click.confirm(f"{where}. Link to it instead of fetching {size}?", True, err=True)
    click.echo(f"{where}: openchat-local models add --link would save the download.", err=True)
    return False


class _Screen:
    """What is going on, on stderr: a bar at a terminal, else now and then a line."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._bar: Bar | None = None
        self._told = time.monotonic()
        self._note = ""
        self._what = "the hub"
        self.fetched = False

    def tell(self, event: Event) -> None:
        from openchat_local.models.hub.pull import Chosen

        if isinstance(event, Chosen):
            self.end()
            self._what = event.reference
            licence = f", licence {one_line(event.licence)}" if event.licence else ""
            click.echo(
                f"{event.repository}/{event.file.name} ({size_in_words(event.file.bytes)}) as "
                f"{event.reference}{licence}. {event.reason}",
                err=True,
            )
            return
        self.fetched = self.fetched or event.total > 0
        if self._terminal:
            self._show(event)
        elif event.note and event.note != self._note:
            click.echo(event.note, err=True)
        elif event.total and time.monotonic() - self._told >= _LINE_SECONDS:
            self._told = time.monotonic()
            click.echo(download_in_words(self._what, event), err=True)
        self._note = event.note

    def end(self) -> None:
        """Nothing moves any more: a question can be asked, and a line be written."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def _show(self, event: Progress) -> None:
        from openchat_local.app.cli.progress import Bar

        if self._bar is None:
            self._bar = Bar(self._what, event.total or None).__enter__()
        self._bar.show(event.done, event.note or transfer_in_words(event))
