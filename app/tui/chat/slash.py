"""Commands that are written into the prompt: what there is, and which one is meant."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from openchat_local.models.errors import OpenChatError

Choices = Callable[[], Iterable[str]]

# "/usr/bin" and "/2" are no attempts at a command.
_ATTEMPT = re.compile(r"\s*/([A-Za-z][\w-]*)(?:\s+(.*\S))?\s*", re.DOTALL)
_ESCAPED = re.compile(r"\s*//")


class NotACommand(OpenChatError):
    """What looks like a command is none: nothing is done, and the text is the user's again."""


class UnknownCommand(NotACommand):
    """There is no command of this name."""


class StandsAlone(NotACommand):
    """The command takes no text, and there is some after it."""


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
    """The command that is meant with what follows it; or the prompt, without the slash that
    was put before it so that it should not be a command. Looks at the disk's root.

    Raises UnknownCommand, StandsAlone.
    """
    if _ESCAPED.match(text):
        bare = text.replace("//", "/", 1)
        # "// a comment" and "///" are as they are meant: no command would have been seen there.
        return text if _attempted(bare, commands) is None else bare
    attempt = _attempted(text, commands)
    if attempt is None:
        return text
    name, argument = attempt
    command = next((each for each in commands if each.name == name), None)
    if command is None:
        raise _unknown(name, commands)
    if argument and not command.argument:
        raise StandsAlone(
            f"/{name} takes no text after it, so nothing was done: take the text away for the "
            "command, or write // in place of / to send all of it as a prompt."
        )
    return command, argument


def command_name(written: str) -> str:
    """A command's name from however it was written: "Top_K" → "top-k"."""
    return written.casefold().replace("_", "-")


def _attempted(text: str, commands: Sequence[SlashCommand]) -> tuple[str, str] | None:
    """The name and what follows it, if the text begins like a command and not like a path."""
    match = _ATTEMPT.fullmatch(text)
    if match is None:
        return None
    name = command_name(match[1])
    if all(each.name != name for each in commands):
        # "/tmp is full, why?"; and "/TODO" is nobody's way to write a command.
        if os.path.lexists(f"/{match[1]}") or match[1] != match[1].casefold():
            return None
        name = match[1]
    return name, match[2] or ""


def _unknown(name: str, commands: Sequence[SlashCommand]) -> UnknownCommand:
    near = get_close_matches(name, [each.name for each in commands], n=1)
    hint = f"did you mean /{near[0]}? " if near else ""
    return UnknownCommand(
        f"There is no command /{name}: {hint}/help lists them, and // in place of / sends the "
        "text as it is."
    )
