"""The conversations on the left: pinned ones first, then by day, one line each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from openchat_local.app.printable import one_line
from openchat_local.app.tui.dates import heading, moment

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat

LEAST_WIDTH, MOST_WIDTH = 30, 60
SHARE = 0.3
"""Of the window's columns, within these limits: a wide window cuts few titles."""
TITLE_CHARACTERS = 80
PRIVATE = "⊘"
_MOMENT_CELLS = 7
_AROUND_CELLS = 3  # two of padding, one for a scroll bar

Row = tuple[str | None, str, bool]
"""The chat (None: a heading), the line, and whether it is the open one."""


class ChatList(OptionList):
    """Says which chat the user picked; it never reads or writes a chat."""

    DEFAULT_CSS = f"""
    ChatList {{
        width: {LEAST_WIDTH};
        height: 1fr;
        border: none;
        padding: 0 1;
        background: $surface;
        scrollbar-size-vertical: 1;
        &:focus {{ border: none; }}
        & > .option-list--option-highlighted {{ background: $foreground 12%; text-style: none; }}
        & > .option-list--option-disabled {{ color: $text-primary; }}
    }}
    """

    class Picked(Message):
        """The user wants to see this chat."""

        def __init__(self, chat_id: str) -> None:
            super().__init__()
            self.chat_id = chat_id

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._shown: list[Row] = []
        self._chats: dict[str, Chat] = {}
        self._current: str | None = None
        self._cells = LEAST_WIDTH

    def fit(self, columns: int) -> None:
        """Take a share of a window of so many columns."""
        cells = max(LEAST_WIDTH, min(MOST_WIDTH, round(columns * SHARE)))
        if cells != self._cells:
            self._cells = cells
            self.styles.width = cells
            self.show(self.chats, self._current)

    def show(self, chats: Sequence[Chat], current: str | None) -> None:
        """Show these chats, `current` highlighted. Repaints only if something changed."""
        self._chats = {chat.id: chat for chat in chats}
        self._current = current
        shown = list(_rows(chats, current, time.time(), self._cells - _AROUND_CELLS))
        if shown == self._shown:
            return
        before = self.highlighted_chat
        self._shown = shown
        self.set_options(
            Option(
                Content.styled(line, "bold" if is_current else ""),
                id=chat_id,
                disabled=chat_id is None,
            )
            for chat_id, line, is_current in shown
        )
        places = {chat_id: number for number, (chat_id, *_) in enumerate(shown) if chat_id}
        # Where the user is in the list counts as long as they are there.
        wanted = before if self.has_focus and before in places else current
        self.highlighted = places.get(wanted) if wanted else None

    @property
    def highlighted_chat(self) -> str | None:
        """The chat under the list's own cursor."""
        option = self.highlighted_option
        return None if option is None else option.id

    @property
    def chats(self) -> Sequence[Chat]:
        """The chats in the list."""
        return list(self._chats.values())

    def chat(self, chat_id: str) -> Chat | None:
        """What was last shown of a chat, if it is in the list."""
        return self._chats.get(chat_id)

    def name_of(self, chat_id: str) -> str:
        """What a sentence calls the chat: its quoted title."""
        chat = self._chats.get(chat_id)
        title = "" if chat is None else title_of(chat)
        return f"“{title}”" if title else "this chat"

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id is not None:
            self.post_message(self.Picked(event.option_id))


def title_of(chat: Chat) -> str:
    """The title, or the beginning of what may become one, on one line."""
    text = (chat.title or chat.draft)[:TITLE_CHARACTERS]
    return one_line(text).strip()


def _rows(chats: Sequence[Chat], current: str | None, now: float, cells: int) -> Iterator[Row]:
    under = ""
    for chat in chats:
        above = "Pinned" if chat.pinned else heading(chat.updated_at, now)
        if above != under:
            under = above
            yield None, above, False
        yield chat.id, _line(chat, now, cells), chat.id == current


def _line(chat: Chat, now: float, cells: int) -> str:
    room = cells - _MOMENT_CELLS
    title = title_of(chat) or "New chat"
    if chat.private:
        title = f"{PRIVATE} {title}"
    if cell_len(title) > room:
        title = set_cell_size(title, room - 1).rstrip() + "…"
    when = moment(chat.updated_at, now, headed=not chat.pinned)
    return set_cell_size(title, room) + when.rjust(_MOMENT_CELLS)
