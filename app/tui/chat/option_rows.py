"""The rows of the options panel, each changed by the command of its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openchat_local.app.settings.model import SamplingSettings, Settings
from openchat_local.app.settings.per_chat import DEFAULT, NONE, SAMPLING_NAMES, THINKING
from openchat_local.app.tui.chat.options import value_of
from openchat_local.app.tui.questions.choose_one import ChooseOne
from openchat_local.app.tui.questions.edit_reply import EditReply
from openchat_local.app.tui.questions.line import AskLine

if TYPE_CHECKING:
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.slash import SlashCommand

NO_QUESTION = frozenset({"title", "tag", "model"})
"""Their commands ask by themselves."""
SWITCHES = {"pin": "pinned", "private": "private"}
SYSTEM_WORDS = "The system prompt of this chat · Ctrl+S keeps it, empty is the model's own · Esc"


async def change(window: WindowContext, row: str, commands: Sequence[SlashCommand]) -> None:
    """Ask for a new value of a row, and run the command that sets it."""
    word, _, rest = row.partition(" ")
    command = next(each for each in commands if each.name == word)
    with window.telling():
        if word in SWITCHES and not await _is_switched(window, command):
            return
        if word in NO_QUESTION or word in SWITCHES:
            await command.run("")
        else:
            asked = _system(window) if word == "system" else _line(window, command, rest)
            if value := await asked:
                await command.run(f"{rest} {value}".strip())
    window.show_options()


async def _is_switched(window: WindowContext, command: SlashCommand) -> bool:
    """Whether the user wants the other of yes and no."""
    from openchat_local.app.chats import ChatStore

    chat_id = window.session.active.id
    if chat_id is None:
        return True  # the command says that there is no chat yet
    name, hint = SWITCHES[command.name], command.summary
    chat = await window.session.run(ChatStore.chat, chat_id)
    now = "yes" if getattr(chat, name) else "no"
    question = ChooseOne(name, ("no", "yes"), now, f"{hint[0].upper()}{hint[1:]}.")
    return await window.ask(question) not in (None, now)


async def _system(window: WindowContext) -> str | None:
    """Several lines may be written; without a word it is none."""
    before = window.session.options().system_prompt
    text = await window.ask(EditReply(before, SYSTEM_WORDS))
    return None if text is None else text.strip() or NONE


async def _line(window: WindowContext, command: SlashCommand, rest: str) -> str | None:
    name = THINKING if command.name == "think" else command.name.replace("-", "_")
    value = value_of(window.session.options(), name)
    offered = command.choices() if command.choices else ()
    known = [each for each in offered if each.strip() not in ("save", DEFAULT, NONE)]
    if name == "preset":
        title, hint = ("Keep as preset", "A name for it") if rest else ("Preset", "")
    else:
        section = SamplingSettings if name in SAMPLING_NAMES else Settings
        title, hint = name.replace("_", " "), section.model_fields[name].description or ""
    if known and not rest:
        hint = f"{hint} One of: {', '.join(known)}.".strip()
    if name in SAMPLING_NAMES or name == "condition":
        hint += f" “{DEFAULT}” is that of the settings."
    return await window.ask(AskLine(title, "" if value is None else str(value), hint))
