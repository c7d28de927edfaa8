"""The conversation as one works with it: the message that keys act on, and the mouse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Offset
from textual.message import Message

from openchat_local.app.tui.markdown.layout import Place
from openchat_local.app.tui.markdown.messages import NEXT, PREVIOUS, FoldLine, has_files
from openchat_local.app.tui.widgets.branch_view import BranchView
from openchat_local.app.tui.widgets.transcript import MARGIN

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage


class Conversation(BranchView):
    """A branch of which one message may be selected."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "step(-1)", "Message above, or scroll", id="message.step-up"),
        Binding("down", "step(1)", "Message below, or scroll", id="message.step-down"),
        Binding("o", "fold", "Open the files in it, or fold them", id="message.fold"),
        Binding("home", "first", "Beginning of the chat", id="message.first"),
        Binding("end", "last", "End of the chat", id="message.last"),
        Binding("r", "act('regenerate')", "Answer it again", id="message.regenerate"),
        Binding("e", "act('edit')", "Edit it as a new version", id="message.edit"),
        Binding("c", "act('continue')", "Continue a cut reply", id="message.continue"),
        Binding("plus", "act('good')", "Rate 👍", id="message.good"),
        Binding("minus", "act('bad')", "Rate 👎", id="message.bad"),
        Binding("left", "act('previous')", "Previous version", id="message.older-version"),
        Binding("right", "act('next')", "Next version", id="message.newer-version"),
        Binding("y", "act('copy')", "Copy the message", id="message.copy"),
        Binding("k", "act('copy_code')", "Copy a code block", id="message.copy-code"),
        Binding("n", "hit(-1)", "Hit above, with the focus in the chat", id="find.next"),
        Binding("N", "hit(1)", "Hit below, with the focus in the chat", id="find.back"),
        Binding("a", "act('copy_chat')", "Copy the chat", id="message.copy-chat"),
    ]

    class Asked(Message):
        """The user wants something done with a message; None is the last reply."""

        def __init__(self, action: str, message: StoredMessage | None) -> None:
            super().__init__()
            self.action = action
            self.message = message

    class Selected(Message):
        """Another message is selected, or none."""

        def __init__(self, message: StoredMessage | None) -> None:
            super().__init__()
            self.message = message

    class HitWanted(Message):
        """To the next hit above (-1) or below (1)."""

        def __init__(self, direction: int) -> None:
            super().__init__()
            self.direction = direction

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._pressed_at: Offset | None = None
        self.keeps_selection = False

    def show_text(self, text: str) -> None:
        self.select(None)
        super().show_text(text)

    def show_turns(self, turns: Sequence[StoredMessage], outside: int = 0) -> None:
        self.select(None)
        super().show_turns(turns, outside)

    # Selecting a message

    @property
    def selected(self) -> StoredMessage | None:
        """The message that keys act on."""
        number = self.number_of(self.selected_key)
        return None if number is None else self.turns[number]

    def select(self, message_id: str | None) -> None:
        """Mark a message, so that keys act on it."""
        if message_id != self.selected_key:
            self.selected_key = message_id
            self.refresh()
            self.post_message(self.Selected(self.selected))

    def reveal_selected(self) -> None:
        """Scroll so that the selected message is seen."""
        if self.selected_key is not None:
            self.reveal(self.selected_key)

    def select_beside(self, direction: int) -> None:
        """Select the message before (-1) or after (1) the selected one, or one on the screen."""
        if not self.turns:
            return
        number = self.number_of(self.selected_key)
        number = self._in_view() if number is None else number + direction
        number = max(0, min(number, len(self.turns) - 1))
        self.select(self.turns[number].id)
        self.reveal(self.turns[number].id)
        self.focus(scroll_visible=False)

    def _in_view(self) -> int:
        """The lowest turn on the screen of which the beginning is seen, or else the first."""
        top, bottom = self.scroll_offset.y, self.scroll_offset.y + self.size.height
        found = self._first
        for number in range(self._first, self._last):
            first, _ = self.sheet.span(number - self._first)
            if first >= bottom:
                break
            if first >= top or found == self._first:
                found = number
        return found

    def action_step(self, direction: int) -> None:
        """To the next message in a direction; through one that is higher than the screen."""
        number = self.number_of(self.selected_key)
        if number is not None and self._first <= number < self._last:
            top, bottom = self.sheet.span(number - self._first)
            view = self.scroll_offset.y
            hidden = top < view if direction < 0 else bottom > view + self.size.height
            if hidden and (top < view + self.size.height and bottom > view):
                self.scroll_relative(y=3 * direction, animate=False)
                return
        self.select_beside(direction)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # Where a letter means nothing, it is the beginning of a prompt. From elsewhere, as
        # from the palette, an action without a selected message means the last reply.
        if action == "hit":
            return self.finder is not None
        if action == "fold":
            return self.selected_key is not None
        return action != "act" or self.selected_key is not None or not self.has_focus

    def action_hit(self, direction: int) -> None:
        self.post_message(self.HitWanted(direction))

    def action_fold(self) -> None:
        selected = self.selected
        if selected is None or not has_files(selected):
            self.post_message(self.Asked("fold", selected))  # to be told so
            return
        self.fold(selected.id)
        self.reveal_selected()

    def action_act(self, action: str) -> None:
        self.post_message(self.Asked(action, self.selected))

    def on_focus(self) -> None:
        if self.selected_key is not None:
            self.post_message(self.Selected(self.selected))  # its keys mean something now

    def on_blur(self) -> None:
        if self.app.app_focus and not self.keeps_selection:
            self.select(None)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self._pressed_at = event.screen_offset

    def on_click(self, event: events.Click) -> None:
        """Select a message; on its line, walk its siblings. (A drag selects text.)"""
        if event.screen_offset != self._pressed_at or event.chain > 1:
            return
        place = self.sheet.place(self.scroll_offset.y + event.y)
        if place.section < 0 or not self.turns:
            return
        message = self.turns[self._first + place.section]
        arrow = self._arrow_at(place, event.x - MARGIN)
        if isinstance(self.sheet.sections[place.section].blocks[place.block], FoldLine):
            self.fold(message.id)
        elif arrow:
            self.post_message(self.Asked("previous" if arrow == PREVIOUS else "next", message))
        else:
            self.select(None if message.id == self.selected_key else message.id)

    def _arrow_at(self, place: Place, column: int) -> str:
        """The arrow of a message's last line that stands on a column, or ""."""
        section = self.sheet.sections[place.section]
        if place.row < 0 or place.block != len(section.blocks) - 1:
            return ""
        for text, style in section.rows(place.block)[place.row]:
            if style == "strong" and text in (PREVIOUS, NEXT) and -1 <= column <= 1:
                return text
            column -= cell_len(text)
        return ""
