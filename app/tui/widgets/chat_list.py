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
        self._gone: tuple[str, int] | None = None
        """The chat that was under the cursor when the list no longer had it, and its row."""

    def fit(self, columns: int) -> None:
        """Take a share of a window of so many columns."""
        cells = max(LEAST_WIDTH, min(MOST_WIDTH, round(columns * SHARE)))
        if cells != self._cells:
            self._cells = cells
            self.styles.width = cells
            self.show(self.chats, self._current)

    def show(self, chats: Sequence[Chat], current: str | None) -> None:
        """Show these chats, `current` is the open one. Repaints only if something changed."""
        meant, row = self.under_cursor, self._cursor_row
        self._chats = {chat.id: chat for chat in chats}
        self._current = current
        shown = list(_rows(chats, current, time.time(), self._cells - _AROUND_CELLS))
        if shown == self._shown:
            return
        self._shown = shown
        self.set_options(
            Option(
                Content.styled(line, "bold" if is_current else ""),
                id=chat_id,
                disabled=chat_id is None,
            )
            for chat_id, line, is_current in shown
        )
        # Where the user is in the list counts as long as they are there: the key that comes
        # next means the chat that they see under the cursor, and no other.
        if self.has_focus and meant is not None:
            self._put_cursor(meant)
            if self.highlighted is None:
                self._gone = meant, row
        else:
            self._put_cursor(current)

    def mark_open(self, chat_id: str | None) -> None:
        """Another chat lies open: the cursor goes there at once, unless the user is in the list.
        Its row may come later, with the next `show`."""
        if not self.has_focus:
            self._put_cursor(chat_id)

    def _put_cursor(self, chat_id: str | None) -> None:
        self._gone = None
        rows = (number for number, (each, *_) in enumerate(self._shown) if each == chat_id)
        self.highlighted = None if chat_id is None else next(rows, None)

    @property
    def under_cursor(self) -> str | None:
        """The chat under the list's own cursor, also where it was deleted elsewhere meanwhile:
        a key that comes too late means that one and not its neighbour."""
        if (option := self.highlighted_option) is not None:
            return option.id
        return None if self._gone is None else self._gone[0]

    @property
    def _cursor_row(self) -> int:
        if self.highlighted is not None:
            return self.highlighted
        return 0 if self._gone is None else self._gone[1]

    def watch_highlighted(self, highlighted: int | None) -> None:
        if highlighted is not None:
            self._gone = None
        super().watch_highlighted(highlighted)

    def action_cursor_up(self) -> None:
        self._step(-1)

    def action_cursor_down(self) -> None:
        self._step(1)

    def _step(self, direction: int) -> None:
        """To the next chat; from one that is gone, to what has come into its place."""
        if self._gone is None or not self._chats:
            (super().action_cursor_up if direction < 0 else super().action_cursor_down)()
            return
        row = min(self._gone[1], len(self._shown))
        below, above = range(row, len(self._shown)), range(row - 1, -1, -1)
        rows = (*below, *above) if direction > 0 else (*above, *below)
        self.highlighted = next(number for number in rows if self._shown[number][0])

    @property
    def chats(self) -> Sequence[Chat]:
        """The chats in the list."""
        return list(self._chats.values())

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
