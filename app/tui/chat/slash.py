"""Commands that are written into the prompt: what there is, and which one is meant."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING

from openchat_local.app.contenders import BASE
from openchat_local.app.engine import installed_adapters, installed_models
from openchat_local.app.model_rows import model_rows, remote_rows
from openchat_local.app.settings.model import SamplingSettings
from openchat_local.app.settings.per_chat import ADAPTER, DEFAULT, NONE, SAMPLING_NAMES, THINKING
from openchat_local.app.tui.chat import labels
from openchat_local.app.tui.chat.export import export
from openchat_local.app.tui.chat.reasons import explain
from openchat_local.models.errors import OpenChatError
from openchat_local.models.library.adapters import NO_ADAPTER

if TYPE_CHECKING:
    from openchat_local.app.tui.chat.chats import Chats
    from openchat_local.app.tui.chat.comparing import Comparing
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.options import Options

Choices = Callable[[], Iterable[str]]

# "/usr/bin" and "/2" are no attempts at a command.
_ATTEMPT = re.compile(r"\s*/([A-Za-z][\w-]*)(?:\s+(.*\S))?\s*", re.DOTALL)
_ESCAPED = re.compile(r"\s*//")
_HALF = re.compile(r"\s*/([\w-]*)")


class NotACommand(OpenChatError):
    """What looks like a command is none: nothing is done, and the text is the user's again."""


class UnknownCommand(NotACommand):
    """There is no command of this name."""


class StandsAlone(NotACommand):
    """The command takes no text, and there is some after it."""


@dataclass(frozen=True, slots=True)
class SlashCommand:
    """A command. `argument` is what follows it, "NAME", "[FILE]" or nothing; `choices` may
    read the disk. One that is about the chat or the prompts runs `in_order`, when those that
    were entered before it have been dealt with."""

    name: str
    argument: str
    summary: str
    run: Callable[[str], Awaitable[object]]
    choices: Choices | None = None
    in_order: bool = True

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


def is_command(text: str, commands: Sequence[SlashCommand]) -> bool:
    """Whether a text that is being written is a command, or may be one when it is complete.
    Looks at the disk's root."""
    if half := _HALF.fullmatch(text):
        return any(each.name.startswith(command_name(half[1])) for each in commands)
    try:
        return not isinstance(parse(text, commands), str)
    except NotACommand:
        return False


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


Act = Callable[[str], Awaitable[object]]
"""Runs an action of the chat screen."""


def slash_commands(
    window: WindowContext, options: Options, chats: Chats, comparing: Comparing, act: Act
) -> list[SlashCommand]:
    """In the order in which they are offered."""

    def at_once(name: str, summary: str, action: str) -> SlashCommand:
        async def run(_: str) -> None:
            await act(action)

        return SlashCommand(name, "", summary, run, in_order=False)

    async def new(_: str) -> None:
        await chats.begin_new()

    async def temporary(_: str) -> None:
        await chats.begin_new(temporary=True)

    async def search(query: str) -> None:
        await act(f"search({query!r})")

    def on_this(label: Callable[..., Awaitable[None]]) -> Callable[[str], Awaitable[None]]:
        async def run(argument: str) -> None:
            await label(window, window.session.active.id, *([argument] if argument else []))

        return run

    async def model(name: str) -> None:
        await (options.set_model(name) if name else act("models"))

    def adapters() -> Iterable[str]:
        return [*installed_adapters().names(), NO_ADAPTER]

    def usable_models() -> Iterable[str]:
        return [row.reference for row in model_rows(installed_models())[0] if row.usable]

    def tags() -> Iterable[str]:
        return sorted({tag for chat in window.list.chats for tag in chat.tags})

    return [
        SlashCommand("new", "", "begin a new chat", new),
        SlashCommand("clear", "", "the same: this chat is kept", new),
        SlashCommand("temporary", "", "a new chat that is never on disk", temporary),
        SlashCommand("title", "[TEXT]", "rename this chat", on_this(labels.rename)),
        SlashCommand("tag", "[TAGS]", "tag this chat", on_this(labels.tag), tags),
        SlashCommand("pin", "", "pin this chat, or unpin it", on_this(labels.pin)),
        SlashCommand("private", "", "mark it private, or not", on_this(labels.make_private)),
        at_once("delete", "delete this chat", "on_chat('ask_to_delete')"),
        SlashCommand("search", "[WORDS]", "search all chats", search, in_order=False),
        SlashCommand(
            "system", "[TEXT]", "the system prompt; none, default, adapter",
            partial(options.set_text, "system_prompt"), lambda: (NONE, DEFAULT, ADAPTER),
        ),
        SlashCommand(
            "condition", "[TEXT]", "the C-RLFT condition; none, default",
            partial(options.set_text, "condition"),
            lambda: ("GPT4 Correct", "Math Correct", "Code", NONE, DEFAULT),
        ),
        SlashCommand(
            "adapter", "[NAME]", "answer with this adapter; none for none",
            options.set_adapter, adapters,
        ),
        SlashCommand(
            "model", "[NAME]", "answer with another model, or see what there is",
            model, usable_models,
        ),
        at_once("models", "what there is, and fetching more", "models"),
        at_once("learn", "choose what the model learns from, and begin", "learn"),
        SlashCommand(
            "preset", "[NAME]", "the options of a preset; save NAME keeps this chat's",
            options.use_preset, lambda: [*sorted(window.session.settings.presets), "save "],
        ),
        SlashCommand(
            "think", "[on|off]", "whether replies think first; auto is the model's own way",
            options.set_thinking, lambda: ("on", "off", "auto", DEFAULT),
        ),
        *(_sampling_command(options, name) for name in SAMPLING_NAMES if name != THINKING),
        SlashCommand(
            "compare", "[A B]", "two answer each prompt, and you say blind who is better; off ends",
            comparing.command, lambda: ["off", *adapters(), BASE, *_remote_names(window)],
        ),
        SlashCommand(
            "why", "[TEXT]", "why you rated a reply so: the selected, or the last rated one",
            partial(explain, window),
        ),
        SlashCommand("export", "[FILE]", ".md, .json or .jsonl", partial(export, window)),
        at_once("training", "what is being learned, and what was", "training"),
        at_once("copy", "copy the last reply", "copy_reply"),
        at_once("chat", "the options of this chat", "toggle_panel"),
        at_once("versions", "the adapters, what they are worth, which answers", "versions"),
        at_once("arena", "all blind votes, and who is ahead", "arena"),
        at_once("rollback", "answer with the version before", "roll_back"),
        at_once("settings", "the settings of the program", "settings"),
        at_once("help", "all keys and commands", "help"),
        at_once("quit", "close the window", "app.quit"),
        at_once("exit", "the same", "app.quit"),
    ]  # fmt: skip


def _remote_names(window: WindowContext) -> Iterable[str]:
    rows, _ = remote_rows(window.session.settings)
    return [row.reference for row in rows]


def _sampling_command(options: Options, name: str) -> SlashCommand:
    meaning = SamplingSettings.model_fields[name].description or ""
    return SlashCommand(
        name.replace("_", "-"),
        "[NUMBER]",
        f"{meaning[0].lower()}{meaning[1:].rstrip('.')}",
        partial(options.set_sampling, name),
        lambda: (DEFAULT,),
    )
