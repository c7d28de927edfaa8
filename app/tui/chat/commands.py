"""The commands that are written into the prompt, wired to what they do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from openchat_local.app.engine import installed_adapters, installed_models
from openchat_local.app.model_rows import model_rows
from openchat_local.app.settings.model import SamplingSettings
from openchat_local.app.settings.per_chat import ADAPTER, DEFAULT, NONE, SAMPLING_NAMES
from openchat_local.app.tui.chat.export import export
from openchat_local.app.tui.chat.slash import SlashCommand
from openchat_local.models.library.adapters import NO_ADAPTER

if TYPE_CHECKING:
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.models import Modelling
    from openchat_local.app.tui.chat.options import Tuning
    from openchat_local.app.tui.chat.sorting import Sorting

Act = Callable[[str], Awaitable[object]]
"""Runs an action of the chat screen."""


def slash_commands(
    stage: WindowContext, tuning: Tuning, sorting: Sorting, modelling: Modelling, act: Act
) -> list[SlashCommand]:
    """In the order in which they are offered."""

    def action(name: str) -> Callable[[str], Awaitable[None]]:
        async def run(_: str) -> None:
            await act(name)

        return run

    async def search(query: str) -> None:
        await act(f"search({query!r})")

    def on_this(method: Callable[..., Awaitable[None]]) -> Callable[[str], Awaitable[None]]:
        async def run(argument: str) -> None:
            await method(stage.desk.shown.id, *([argument] if argument else []))

        return run

    def adapters() -> Iterable[str]:
        return [*installed_adapters().names(), NO_ADAPTER]

    def usable_models() -> Iterable[str]:
        return [row.reference for row in model_rows(installed_models())[0] if row.usable]

    def tags() -> Iterable[str]:
        return sorted({tag for chat in stage.list.chats for tag in chat.tags})

    return [
        SlashCommand("new", "", "begin a new chat", action("new_chat")),
        SlashCommand("clear", "", "the same: this chat is kept", action("new_chat")),
        SlashCommand("temporary", "", "a new chat that is never on disk", action("temporary_chat")),
        SlashCommand("title", "[TEXT]", "rename this chat", on_this(sorting.rename)),
        SlashCommand("tag", "[TAGS]", "tag this chat", on_this(sorting.tag), tags),
        SlashCommand("pin", "", "pin this chat, or unpin it", on_this(sorting.pin)),
        SlashCommand("private", "", "mark it private, or not", on_this(sorting.make_private)),
        SlashCommand("delete", "", "delete this chat", action("on_chat('ask_to_delete')")),
        SlashCommand("search", "[WORDS]", "search all chats", search),
        SlashCommand(
            "system", "[TEXT]", "the system prompt; none, default, adapter",
            partial(tuning.set_text, "system_prompt"), lambda: (NONE, DEFAULT, ADAPTER),
        ),
        SlashCommand(
            "condition", "[TEXT]", "the C-RLFT condition; none, default",
            partial(tuning.set_text, "condition"),
            lambda: ("GPT4 Correct", "Math Correct", "Code", NONE, DEFAULT),
        ),
        SlashCommand(
            "adapter", "[NAME]", "answer with this adapter; none for none",
            tuning.set_adapter, adapters,
        ),
        SlashCommand(
            "model", "[NAME]", "answer with another model, or see what there is",
            modelling.choose, usable_models,
        ),
        SlashCommand("models", "", "what there is, and fetching more", action("models")),
        SlashCommand(
            "preset", "[NAME]", "hold the chat with a preset; save NAME keeps one",
            tuning.use_preset, lambda: [*sorted(stage.desk.settings.presets), "save "],
        ),
        *(_sampling_command(tuning, name) for name in SAMPLING_NAMES),
        SlashCommand("export", "[FILE]", ".md, .json or .jsonl", partial(export, stage)),
        SlashCommand("copy", "", "copy the last reply", action("copy_reply")),
        SlashCommand("chat", "", "what this chat is held with", action("toggle_panel")),
        SlashCommand("settings", "", "the settings of the program", action("settings")),
        SlashCommand("help", "", "all keys and commands", action("help")),
        SlashCommand("quit", "", "close the window", action("app.quit")),
        SlashCommand("exit", "", "the same", action("app.quit")),
    ]  # fmt: skip


def _sampling_command(tuning: Tuning, name: str) -> SlashCommand:
    meaning = SamplingSettings.model_fields[name].description or ""
    return SlashCommand(
        name.replace("_", "-"),
        "[NUMBER]",
        f"{meaning[0].lower()}{meaning[1:].rstrip('.')}",
        partial(tuning.set_sampling, name),
        lambda: (DEFAULT,),
    )
