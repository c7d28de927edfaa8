"""The panel on the right: what it shows, and how a row of it is changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openchat_local.app.settings.model import SamplingSettings, Settings
from openchat_local.app.settings.per_chat import DEFAULT, NONE, SAMPLING_NAMES
from openchat_local.app.tui.screens.choose_one import ChooseOne
from openchat_local.app.tui.screens.edit_reply import EditReply
from openchat_local.app.tui.screens.line import AskLine
from openchat_local.app.tui.widgets.chat_panel import WIDTH, ChatPanel

if TYPE_CHECKING:
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.slash import SlashCommand

BESIDE_FROM_COLUMNS = 120
NO_QUESTION = frozenset({"title", "tag", "model"})
"""Their commands ask by themselves."""
SWITCHES = {"pin": "pinned", "private": "private"}
SYSTEM_WORDS = "The system prompt of this chat · Ctrl+S keeps it, empty is the model's own · Esc"


class Panel:
    """Every row is changed by the command of its name."""

    def __init__(self, stage: WindowContext, commands: Sequence[SlashCommand]) -> None:
        self.widget = ChatPanel()
        self._stage = stage
        self._commands = {command.name: command for command in commands}

    @property
    def shown(self) -> bool:
        """Whether it is on the screen."""
        return self.widget.has_class("-shown")

    def toggle(self) -> None:
        """Show the panel and go there, or go back to the prompt."""
        self.widget.set_class(not self.shown, "-shown")
        self.refresh()
        (self.widget if self.shown else self._stage.pane.prompt).focus()

    @property
    def columns_beside(self) -> int:
        """How many columns it takes away from the chat."""
        return WIDTH if self.shown and not self.widget.has_class("-over") else 0

    def arrange(self, columns: int) -> None:
        """Beside the chat where there is room, else above it."""
        self.widget.set_class(columns < BESIDE_FROM_COLUMNS, "-over")

    def refresh(self) -> None:
        """Show what is in force now."""
        if self.shown:
            desk, loaded = self._stage.desk, self._stage.pane.room.loaded
            presets = sorted(desk.settings.presets)
            self.widget.show(desk.held(), desk.shown.chat, loaded, presets)

    async def change(self, name: str) -> None:
        """Ask for a new value, and run the command that sets it."""
        word, _, rest = name.partition(" ")
        command = self._commands[word]
        with self._stage.telling():
            if word in SWITCHES and not await self._is_switched(word):
                return
            if word in NO_QUESTION or word in SWITCHES:
                await command.run("")
            else:
                value = await (self._system() if word == "system" else self._line(word, rest))
                if value:
                    await command.run(f"{rest} {value}".strip())
        self.refresh()

    async def _is_switched(self, word: str) -> bool:
        """Whether the user wants the other of yes and no."""
        chat_id = self._stage.desk.shown.id
        if chat_id is None:
            return True  # the command says that there is no chat yet
        chat = await self._stage.desk.chat(chat_id)
        now = "yes" if getattr(chat, SWITCHES[word]) else "no"
        hint = self._commands[word].summary
        screen = ChooseOne(SWITCHES[word], ("no", "yes"), now, f"{hint[0].upper()}{hint[1:]}.")
        return await self._stage.pane.app.push_screen_wait(screen) not in (None, now)

    async def _system(self) -> str | None:
        """Several lines may be written; without a word it is none."""
        before = self._stage.desk.held().system_prompt
        text = await self._stage.pane.app.push_screen_wait(EditReply(before, SYSTEM_WORDS))
        return None if text is None else text.strip() or NONE

    async def _line(self, word: str, rest: str) -> str | None:
        now, name = self._stage.desk.held(), word.replace("-", "_")
        value = getattr(now.sampling if name in SAMPLING_NAMES else now, name, None)
        choices = self._commands[word].choices
        offered = choices() if choices else ()
        known = [each for each in offered if each.strip() not in ("save", DEFAULT, NONE)]
        if word == "preset":
            title, hint = ("Keep as preset", "A name for it") if rest else ("Preset", "")
        else:
            section = SamplingSettings if name in SAMPLING_NAMES else Settings
            title, hint = name.replace("_", " "), section.model_fields[name].description or ""
        if known and not rest:
            hint = f"{hint} One of: {', '.join(known)}.".strip()
        if name in SAMPLING_NAMES or name == "condition":
            hint += f" “{DEFAULT}” is that of the settings."
        shown = "" if value is None else str(value)
        return await self._stage.pane.app.push_screen_wait(AskLine(title, shown, hint))
