"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from openchat_local.app.cli.main import COMMANDS, RootGroup, main
from openchat_local.app.settings.model import LARGEST, SettingsError, load_settings


@pytest.mark.parametrize("option", ["--temperature", "--top-p", "--min-p", "--repeat-penalty"])
def test_what_is_not_a_number_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["ask", "Hi", option, "nan"]) == 2
    assert "'nan' is not a number" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["history", "list"]])
def test_help_has_a_short_name_everywhere(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main([*command, "-h"]) == 0
    short = capsys.readouterr().out
    assert short.startswith("Usage: openchat-local")
    assert main([*command, "--help"]) == 0
    assert capsys.readouterr().out == short


@pytest.mark.parametrize("option", ["--top-k", "--max-tokens", "--context", "--gpu-layers"])
def test_a_number_that_would_wrap_around_in_32_bits_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["ask", "Hi", option, "4294967297"]) == 2
    assert "2147483647" in capsys.readouterr().err


def test_the_settings_have_the_same_bound() -> None:
    with pytest.raises(SettingsError, match="--top-k cannot be"):
        load_settings({"sampling": {"top_k": 2**32 + 1}})
    assert load_settings({"sampling": {"top_k": LARGEST}}).sampling.top_k == LARGEST


def test_every_option_of_every_command_says_what_it_is() -> None:
    def silent(command: click.Command, path: str) -> Iterator[str]:
        context = click.Context(command)
        options = (one for one in command.params if isinstance(one, click.Option))
        yield from (f"{path} {one.opts[0]}" for one in options if not one.help)
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from silent(inner, f"{path} {name}")

    assert [*silent(RootGroup(), "openchat-local")] == []
