"""`bundle`: this program with models and adapters, for a machine without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from openchat_local.app.bundle.target import Target


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "-m", "--model", "models", multiple=True, metavar="NAME|FILE",
    help="A model to take along; again for more. The one in the settings if not given.",
)  # fmt: skip
@click.option("--adapter", "adapters", multiple=True, metavar="NAME", help="An installed adapter.")
@click.option(
    "--extra", "extras", multiple=True, type=click.Choice(["mlx", "torch"]),
    help="What fine-tuning needs there.",
)  # fmt: skip
@click.option(
    "--native", is_flag=True, help="llama.cpp as it is here: for the same kind of processor."
)
@click.option(
    "--platform", metavar="SYSTEM-MACHINE", help="Another kind of machine, such as macos-arm64."
)
@click.option("--python", metavar="3.N", help="The Python over there, if it is not this one.")
@click.option(
    "--wheels", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="FOLDER",
    help="Take llama.cpp's wheel from here, such as from the wheels/ of an earlier bundle.",
)  # fmt: skip
def bundle(
    out: Path,
    models: tuple[str, ...],
    adapters: tuple[str, ...],
    extras: tuple[str, ...],
    native: bool,
    platform: str | None,
    python: str | None,
    wheels: Path | None,
) -> None:
    """Make the folder OUT, which installs this program where there is no network.

    It holds the program and all it depends on as wheels, the models and adapters with their
    hashes, and a script, OUT/install. llama.cpp is compiled to suit every processor of this
    kind, which takes some minutes and the network; with --native or --wheels nothing is fetched.
    """
    import time

    from openchat_local.app.bundle.contents import choose_contents
    from openchat_local.app.bundle.making import Order, make_bundle
    from openchat_local.app.settings.model import load_settings
    from openchat_local.models.units import size_in_words, time_in_words

    names = models or (load_settings().model,)
    target = _target(platform, python)
    if native and not target.is_here:
        raise click.UsageError("--native is for a machine like this one: leave --platform out.")
    order = Order(target, choose_contents(names, adapters), extras, native, wheels)
    started = time.monotonic()
    size = make_bundle(out, order, lambda line: click.echo(line, err=True))
    script = "install.ps1" if target.platform.startswith("windows") else "install"
    click.echo(
        f"{out} ({size_in_words(size)}, {time_in_words(time.monotonic() - started)}) is for "
        f"{target.platform} with Python {target.python}; run {out / script} there.",
    )


def _target(platform: str | None, python: str | None) -> Target:
    import re

    from openchat_local.app.bundle.target import PLATFORMS, Target, here

    own = here()
    if platform is not None and platform not in PLATFORMS and platform != own.platform:
        raise click.BadParameter(
            f"{platform!r} is not one of {', '.join(PLATFORMS)}.", param_hint="--platform"
        )
    if python is not None and not re.fullmatch(r"3\.\d{1,2}", python):
        raise click.BadParameter(
            f"{python!r} is not a version such as 3.12.", param_hint="--python"
        )
    return Target(platform or own.platform, python or own.python)
