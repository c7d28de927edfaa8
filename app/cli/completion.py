"""`completion`: the script that teaches a shell to complete our command lines."""

from __future__ import annotations

import click

from openchat_local.models.errors import OpenChatError

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print the script that completes commands with Tab.")
@click.argument("shell", required=False, type=click.Choice(SHELLS))
def completion(shell: str | None) -> None:
    """Print the script that lets SHELL (default: that of $SHELL) complete with Tab.

    Commands, options, and the names of models, adapters, conditions and chats are completed.

    \b
    In ~/.bashrc:  eval "$(openchat-local completion bash)"
    In ~/.zshrc:   eval "$(openchat-local completion zsh)"
    For fish:      openchat-local completion fish > ~/.config/fish/completions/openchat-local.fish
    """
    from click.shell_completion import get_completion_class

    from openchat_local.app.cli.main import COMPLETE_VARIABLE, PROGRAM, cli

    name = shell or _shell_in_use()
    found = get_completion_class(name)
    assert found is not None
    # The source itself: click's own method of that name first looks for bash's version.
    script = found(cli, {}, PROGRAM, COMPLETE_VARIABLE)
    click.echo(script.source_template % script.source_vars())


def _shell_in_use() -> str:
    import os
    from pathlib import PurePath

    name = PurePath(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise OpenChatError(
            f"The shell {name or 'in use'} is not known: name one of {', '.join(SHELLS)}, "
            "as in openchat-local completion bash."
        )
    return name
