"""The conversations on the left: one line each, title and day."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len, set_cell_size
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from openchat_local.app.printable import printable

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat

WIDTH = 30
TITLE_CHARACTERS = 80
_DAY_CELLS = 7
_TITLE_CELLS = WIDTH - 3 - _DAY_CELLS  # two of padding, one for a scroll bar


class ChatList(OptionList):
    """Newest first. Says which chat the user picked; it never reads or writes a chat."""

    DEFAULT_CSS = f"""
    ChatList {{
        width: {WIDTH};
        height: 1fr;
        border: none;
        padding: 0 1;
        background: $surface;
        scrollbar-size-vertical: 1;
        &:focus {{ border: none; }}
        & > .option-list--option-highlighted {{ background: $foreground 12%; text-style: none; }}
    }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("delete", "screen.delete_chat", "Delete", show=False)
    ]

    class Picked(Message):
        """The user wants to see this chat."""

        def __init__(self, chat_id: str) -> None:
            super().__init__()
            self.chat_id = chat_id

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._shown: list[tuple[str, str, bool]] = []
        self._titles: dict[str, str] = {}

    def show(self, chats: Sequence[Chat], current: str | None) -> None:
        """Show these chats, `current` highlighted. Repaints only if something changed."""
        now = time.time()
        self._titles = {chat.id: _title(chat) for chat in chats}
        shown = [(chat.id, _line(chat, now), chat.id == current) for chat in chats]
        if shown == self._shown:
            return
        self._shown = shown
        self.set_options(
            Option(Content.styled(line, "bold" if is_current else ""), id=chat_id)
            for chat_id, line, is_current in shown
        )
        self.highlighted = next((i for i, (*_, here) in enumerate(shown) if here), None)

    def name_of(self, chat_id: str) -> str:
        """What a question calls the chat: its quoted title."""
        title = self._titles.get(chat_id, "")
        return f"“{title}”" if title else "this chat"

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id is not None:
            self.post_message(self.Picked(event.option_id))


def _title(chat: Chat) -> str:
    """The title, or the beginning of what may become one, on one line."""
    text = (chat.title or chat.draft)[:TITLE_CHARACTERS]
    return printable(text).replace("\n", " ").strip()


def _line(chat: Chat, now: float) -> str:
    title = _title(chat) or "New chat"
    if chat.pinned:
        title = f"* {title}"
    if cell_len(title) > _TITLE_CELLS:
        title = set_cell_size(title, _TITLE_CELLS - 1).rstrip() + "…"
    return set_cell_size(title, _TITLE_CELLS) + _day(chat.updated_at, now).rjust(_DAY_CELLS)


def _day(seconds: float, now: float) -> str:
    """A time of day for today, a day of these ten months, or the year."""
    when, today = time.localtime(seconds), time.localtime(now)
    if when[:3] == today[:3]:
        return time.strftime("%H:%M", when)
    if abs(now - seconds) < 300 * 86_400:
        return f"{when.tm_mday} {time.strftime('%b', when)}"
    return time.strftime("%Y", when)
