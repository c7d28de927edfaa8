"""The prompt helps: completions as one types, and by Up the prompts from before."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openchat_local.app.replies.attachments import without_blocks
from openchat_local.app.tui.chat.slash import SlashCommand, command_name
from openchat_local.app.tui.widgets.suggestions import Suggestion, Suggestions
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.tui.chat.context import WindowContext

LISTED = 50

_COMMAND = re.compile(r"/([A-Za-z_-]*)")
_ARGUMENT = re.compile(r"/([A-Za-z_-]+) (.*)")
_FILE = re.compile(r'(?:.*\s)?@("?)([^"]*)', re.DOTALL)


class Completion:
    """Hears every key of the prompt before the prompt itself does."""

    def __init__(self, window: WindowContext, commands: Sequence[SlashCommand]) -> None:
        self.widget = Suggestions()
        self._window = window
        self._prompt = window.prompt
        self._commands = commands
        self._closed_for = ""
        self._shown_for = ""
        self._history: list[str] = []
        self._sent: list[str | None] = []
        self._place = -1

    def look(self) -> None:
        """The prompt has changed: suggest what may follow."""
        text = self._prompt.text
        if self.widget.current is None and "@" not in text and not text.startswith("/"):
            return  # as nearly always: this is called at every key
        self._window.begin(self._look, "suggest")

    async def _look(self) -> None:
        before = self._before()
        found: list[Suggestion] = []
        if self._may_follow(before):
            found = await asyncio.to_thread(suggestions, before, self._commands)
        if before == self._before():
            self._show(found, before)

    def _may_follow(self, before: str) -> bool:
        return before != self._closed_for and ("@" in before or before.startswith("/"))

    def _show(self, found: Sequence[Suggestion], before: str) -> None:
        self._shown_for = before
        self.widget.show(found)

    def _catch_up(self, key: str) -> None:
        """Suggest what follows the text as it is, where keys came faster than suggestions."""
        before = self._before()
        if before == self._shown_for or not (self._may_follow(before) or self.widget.current):
            return
        # Enter takes the name of a command at most: no look at the disk for that.
        looks = self._may_follow(before) and (key == "tab" or before.startswith("/"))
        self._show(suggestions(before, self._commands) if looks else (), before)

    def hear(self, key: str) -> bool:
        """Whether the key was meant for what is suggested, or for the prompts from before."""
        if key in ("tab", "enter", "up", "down"):
            self._catch_up(key)
        current = self.widget.current
        if current is None:
            return key in ("up", "down") and self._recall(1 if key == "up" else -1)
        if key in ("up", "down"):
            self.widget.move(-1 if key == "up" else 1)
        elif key == "tab" or (key == "enter" and self._enter_takes(current)):
            self.take(current)
        elif key == "escape":
            self._closed_for = self._before()
            self._show((), self._closed_for)
        else:
            return False
        return True

    def _enter_takes(self, suggestion: Suggestion) -> bool:
        """Enter completes half a command, and what the user has gone to with the arrows."""
        return self.widget.moved or (
            suggestion.is_command and suggestion.insert.rstrip() != self._before()
        )

    def take(self, suggestion: Suggestion) -> None:
        """Put a suggestion into the prompt, unless that has changed meanwhile."""
        if self._shown_for != self._before():
            return
        row, column = self._prompt.cursor_location
        self._prompt.replace(suggestion.insert, (row, column - suggestion.length), (row, column))
        self.widget.show(())
        self._prompt.focus()

    def _before(self) -> str:
        """The text from the beginning to the cursor."""
        return self._prompt.get_text_range((0, 0), self._prompt.cursor_location)

    # Prompts from before

    def remember(self, text: str) -> None:
        """Note what was entered here: a command comes back by Up like a prompt, whether it was
        obeyed or not. It is known to this window alone."""
        self._sent.insert(0, text if text.lstrip().startswith("/") else None)

    def _recall(self, direction: int) -> bool:
        """Go to an older (1) or newer (-1) prompt, if that is what the key means here."""
        recalled = self._history[self._place] if self._place >= 0 else ""
        if self._prompt.text != recalled:
            self._place = -1
            return False
        if self._place < 0:
            if direction > 0 and self._window.queue.any:
                self._prompt.put(self._window.queue.take_back())
            elif direction > 0:
                self._window.begin(self._recall_first, "recall")
            return direction > 0
        self._place = max(-1, min(len(self._history) - 1, self._place + direction))
        self._prompt.put(self._history[self._place] if self._place >= 0 else "")
        return True

    async def _recall_first(self) -> None:
        try:
            prompts = await self._recent_prompts()
        except OpenChatError:
            return  # the store cannot be read, which the window has told already
        self._history = _interleaved(self._sent, map(without_blocks, prompts))
        if self._history and not self._prompt.text:
            self._place = 0
            self._prompt.put(self._history[0])

    async def _recent_prompts(self) -> list[str]:
        """What was asked last, newest first."""
        from openchat_local.app.chats import ChatStore

        session = self._window.session
        chat_id = session.active.id
        prompts = await session.run(ChatStore.recent_prompts, chat_id)
        if session.is_temporary(chat_id):
            prompts += await session.run(ChatStore.recent_prompts, None)
        return prompts


def _interleaved(sent: Sequence[str | None], prompts: Iterator[str]) -> list[str]:
    """Commands and prompts, newest first, each once. Of what was `sent`, newest first, None is
    a prompt: `prompts` has its words, and those from before."""
    entered = [next(prompts, None) if text is None else text for text in sent]
    return list(dict.fromkeys(text for text in (*entered, *prompts) if text))


def suggestions(before: str, commands: Sequence[SlashCommand]) -> list[Suggestion]:
    """What may follow `before`, the text up to the cursor. Reads the disk."""
    if match := _COMMAND.fullmatch(before):
        return list(_commands(command_name(match[1]), commands))
    if match := _ARGUMENT.fullmatch(before):
        return list(_arguments(command_name(match[1]), match[2], commands))
    if (match := _FILE.fullmatch(before)) and (match[1] or not re.search(r"\s", match[2])):
        return list(_files(match[2], quoted=bool(match[1])))
    return []


def _commands(written: str, commands: Sequence[SlashCommand]) -> Iterator[Suggestion]:
    for command in commands:
        if command.name.startswith(written):
            insert = f"/{command.name}" + (" " if command.argument else "")
            yield Suggestion(command.usage, command.summary, insert, len(written) + 1, True)


def _arguments(name: str, written: str, commands: Sequence[SlashCommand]) -> Iterator[Suggestion]:
    command = next((each for each in commands if each.name == name), None)
    if command is not None and command.choices is not None:
        for choice in command.choices():
            if choice.casefold().startswith(written.casefold()) and choice != written:
                yield Suggestion(choice, "", choice, len(written))


def _files(written: str, *, quoted: bool) -> Iterator[Suggestion]:
    folder, _, start = written.rpartition("/")
    above = f"{folder}/" if "/" in written else ""
    try:
        entries = sorted(
            os.scandir(Path(above or ".").expanduser()), key=lambda entry: entry.name.casefold()
        )
    except (OSError, RuntimeError, ValueError):
        return
    found = 0
    for entry in entries:
        name = entry.name
        hidden = name.startswith(".") and not start.startswith(".")
        if hidden or not name.casefold().startswith(start.casefold()) or not name.isprintable():
            continue
        end = "/" if _is_folder(entry) else ""
        path = f"{above}{name}{end}"
        if '"' in path:
            continue
        needs_quotes = quoted or " " in path
        close = '"' if needs_quotes and not end else ""
        insert = f'@"{path}{close}' if needs_quotes else f"@{path}"
        if insert != f"@{written}":
            length = len(written) + 1 + quoted
            yield Suggestion(f"{name}{end}", "", insert, length)
            found += 1
            if found == LISTED:
                return


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
