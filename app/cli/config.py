"""`config`: which settings are in force, and where each comes from."""

from __future__ import annotations

import re

import click

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@click.group(short_help="Show the settings and where they come from.")
def config() -> None:
    """Flags come before the environment (OPENCHAT_LOCAL_*), the environment before the
    settings file, and the file before the defaults.
    """


@config.command()
def path() -> None:
    """Print where the settings file is, or would be."""
    from openchat_local.app.paths import config_path

    click.echo(config_path())


@config.command()
def show() -> None:
    """Print every setting as TOML, with its source as a comment."""
    from openchat_local.app.settings.layers import leaves
    from openchat_local.app.settings.model import load_settings_with_sources

    settings, sources = load_settings_with_sources()
    values = settings.model_dump()
    # What a preset leaves out is not set to the default by it.
    values["presets"] = settings.model_dump(include={"presets"}, exclude_unset=True).get(
        "presets", {}
    )
    for key, value in leaves(values):
        name = ".".join(part if _BARE.fullmatch(part) else to_toml(part) for part in key)
        # TOML has no null, so a setting without a value is a comment.
        line = f"# {name} is unset" if value is None else f"{name} = {to_toml(value)}"
        click.echo(f"{line:<40} # {sources['.'.join(key)]}")


def to_toml(value: bool | int | float | str) -> str:
    """`value` as TOML writes it, on one line and without control characters."""
    import json

    # JSON and TOML agree on these types, but TOML also wants DEL escaped, and a terminal
    # would obey the C1 controls.
    text = json.dumps(value, ensure_ascii=False)
    return "".join(f"\\u{ord(c):04x}" if "\x7f" <= c <= "\x9f" else c for c in text)
