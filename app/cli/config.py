"""`config`: which settings are in force, and where each comes from."""

from __future__ import annotations

import re

import click

_WIDTH = 40  # columns of a setting before its source
# What TOML lets stand in a text and a terminal obeys: C1 controls, Unicode's Bidi_Control.
_OBEYED = re.compile("[\x80-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


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
    import tomlkit

    from openchat_local.app.settings.layers import leaves
    from openchat_local.app.settings.model import load_settings_with_sources

    settings, sources = load_settings_with_sources()
    values = settings.model_dump()
    # What a preset leaves out is not set to the default by it; nor what an engine does.
    for section in ("presets", "engines"):
        only_set = settings.model_dump(include={section}, exclude_unset=True)
        values[section] = only_set.get(section, {})
    document = tomlkit.document()
    for key, value in leaves(values):
        name, source = tomlkit.key(list(key)), sources[".".join(key)]
        if value is None:  # TOML has no null: a setting without a value is a comment.
            unset = f"{name.as_string()} is unset"
            document.add(tomlkit.comment(f"{unset:<{_WIDTH - 2}} # {source}"))
            continue
        item = tomlkit.item(value).comment(source)
        length = len(f"{name.as_string()} = {item.as_string()}")
        item.trivia.comment_ws = " " * (max(0, _WIDTH - length) + 1)
        document.append(name, item)
    text = tomlkit.dumps(document)
    click.echo(_OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text), nl=False)
