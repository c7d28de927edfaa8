"""Commands that are written into the prompt: what there is, and which one is meant."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from openchat_local.models.errors import OpenChatError

Choices = Callable[[], Iterable[str]]

# "/usr/bin" and "/2" are no attempts at a command, "//" is a slash to be sent.
_ATTEMPT = re.compile(r"\s*/([a-z][a-z-]*)(?:\s+(.*\S))?\s*", re.DOTALL)


class UnknownCommand(OpenChatError):
    """There is no command of this name."""


@dataclass(frozen=True, slots=True)
class SlashCommand:
    """A command. `argument` is what follows it, "NAME", "[FILE]" or nothing; `choices` may
    read the disk."""

    name: str
    argument: str
    summary: str
    run: Callable[[str], Awaitable[object]]
    choices: Choices | None = None

    @property
    def usage(self) -> str:
        """As it is written: "/preset [NAME]"."""
        return f"/{self.name} {self.argument}".rstrip()


def parse(text: str, commands: Sequence[SlashCommand]) -> tuple[SlashCommand, str] | str:
    """The command that is meant with what follows it; or the prompt, a doubled slash single.

    Raises UnknownCommand.
    """
    if text.lstrip().startswith("//"):
        return text.replace("//", "/", 1)
    match = _ATTEMPT.fullmatch(text)
    if match is None:
        return text
    name, argument = match[1], match[2] or ""
    for command in commands:
        if command.name == name:
            return command, argument
    near = get_close_matches(name, [each.name for each in commands], n=1)
    hint = f"did you mean /{near[0]}? " if near else ""
    raise UnknownCommand(
        f"There is no command /{name}: {hint}/help lists them, and // sends a slash as it is."
    )
