"""The conversation on the screen: one widget that paints rows, scrolls, and knows messages.

No message is a widget, so a new line of a reply costs no layout: the rows that changed
are made, the screen scrolls, and everything above is served from a cache.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Offset, Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from openchat_local.app.tui.markdown.branch_layout import BranchLayout
from openchat_local.app.tui.markdown.copying import selected_text
from openchat_local.app.tui.markdown.layout import Layout
from openchat_local.app.tui.markdown.search import Finder
from openchat_local.app.tui.markdown.sections import (
    PREVIOUS,
    arrow_at,
    plain_blocks,
)
from openchat_local.app.tui.markdown.thoughts import FoldLine
from openchat_local.app.tui.widgets.row_painter import MARGIN, STYLES, RowPainter, look_of

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage
    from openchat_local.app.chats.who_wrote import Answerer
    from openchat_local.app.tui.markdown.blocks import Block

BAR_SECONDS = 1.0


class Transcript(ScrollView, can_focus=True):
    """Shows a branch near the reader, follows its end while the reader is there, and lets one
    message be selected."""

    DEFAULT_CSS = """
    Transcript {
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        scrollbar-background: $background;
        background: $background;
        color: $foreground;
    }
    """ + "".join(f"Transcript > .transcript--{name} {{ {css} }}\n" for name, css in STYLES.items())
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"transcript--{name}" for name in STYLES}
    ALLOW_SELECT = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "step(-1)", "Message above, or scroll", id="message.step-up"),
        Binding("down", "step(1)", "Message below, or scroll", id="message.step-down"),
        Binding("o", "fold", "Open its files or thoughts, or fold them", id="message.fold"),
        Binding("home", "first", "Beginning of the chat", id="message.first"),
        Binding("end", "last", "End of the chat", id="message.last"),
        Binding("r", "act('regenerate')", "Answer it again", id="message.regenerate"),
        Binding("e", "act('edit')", "Edit it as a new version", id="message.edit"),
        Binding("c", "act('continue')", "Continue a cut reply", id="message.continue"),
        Binding("plus", "act('good')", "Rate 👍", id="message.good"),
        Binding("minus", "act('bad')", "Rate 👎", id="message.bad"),
        Binding("w", "act('why')", "Say why it is rated so", id="message.why"),
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
        self.selected_key: str | None = None
        self.finder: Finder | None = None
        self.keeps_selection = False
        self._branch = BranchLayout()
        self._painter = RowPainter(self, self._branch.layout)
        self._at_end = True
        self._bar_moved = 0.0
        self._pressed_at: Offset | None = None

    # What is shown

    @property
    def turns(self) -> Sequence[StoredMessage]:
        """The branch; the reply that is being written is its last."""
        return self._branch.turns

    @property
    def laid_out(self) -> Layout:
        """What is laid out of it: what is near the reader."""
        return self._branch.layout

    def number_of(self, key: str | None) -> int | None:
        """The number of the turn with this id in the branch."""
        return self._branch.number_of(key)

    def show_text(self, text: str) -> None:
        """Show the program's own words and no turns."""
        self.show_blocks(plain_blocks(text))

    def show_blocks(self, blocks: Iterable[Block]) -> None:
        """Show these blocks and no turns."""
        self.select(None)
        with self._changing(follow=True):
            self._paint_from(self._branch.show_blocks(blocks))

    def show_turns(self, turns: Sequence[StoredMessage], outside: int = 0) -> None:
        """Show a branch at its end. `outside` turns at its beginning are grey."""
        self.select(None)
        with self._changing(follow=True):
            self._paint_from(self._branch.show_turns(turns, outside))
        self._fill()

    def set_outside(self, outside: int) -> None:
        """The model does not see the first `outside` turns."""
        with self._changing():
            self._paint_from(self._branch.set_outside(outside))

    def update_turn(self, message: StoredMessage) -> None:
        """Show what has changed about a turn: its rating, its siblings."""
        with self._changing():
            self._paint_from(self._branch.update_turn(message))

    def set_answerer(self, now: Answerer) -> None:
        """Who gives the next reply: those of others say whose they are."""
        with self._changing():
            self._paint_from(self._branch.set_answerer(now))

    def fold(self, message_id: str, *, unfolded: bool | None = None) -> None:
        """Open the files that went along with a prompt or what a reply thought, or fold them;
        None does whichever is not so yet."""
        with self._changing():
            self._paint_from(self._branch.fold(message_id, unfolded=unfolded))

    # A reply as it is written

    def begin_reply(self, message: StoredMessage) -> None:
        """A reply has begun under the last of the turns that stay: its siblings go."""
        with self._changing(follow=True):
            self._paint_from(self._branch.begin_reply(message))
        self._fill()

    def grow_reply(self, text: str) -> None:
        """More of the reply that `begin_reply` started."""
        self._branch.add(text)
        if self.at_end or self.rows_below <= self.size.height:
            self._show_added()

    def note_thinking(self, tokens: int, seconds: float, *, show: bool = False) -> None:
        """How much that reply has thought until now; with `show`, though no text has come."""
        self._branch.note_thinking(tokens, seconds)
        if show and self.at_end:
            self._show_added()

    def fold_thoughts(self) -> bool:
        """Open what the last reply thought, or fold it; False where there is nothing."""
        last = next((turn for turn in reversed(self.turns) if turn.role == "assistant"), None)
        if last is None or not self._branch.can_fold(last):
            return False
        self.fold(last.id)
        return True

    def end_reply(self, message: StoredMessage) -> None:
        """The reply is complete."""
        with self._changing():
            self._paint_from(self._branch.end_reply(message))

    def _show_added(self) -> None:
        with self._changing():
            self._paint_from(self._branch.show_added())

    # Where the reader is

    @property
    def at_end(self) -> bool:
        """Whether the reader is at the end, and goes along when something comes."""
        at_end = self._at_end and not self.is_vertical_scrollbar_grabbed
        return at_end and self._branch.shows_end

    @property
    def rows_below(self) -> int:
        """How many rows there are below the screen."""
        return max(0, self.laid_out.rows - self.scroll_offset.y - self.size.height)

    @contextmanager
    def _changing(self, *, follow: bool | None = None) -> Iterator[None]:
        """Keeps the reader's place while sections come and go above it. The end is shown where
        `follow` says so; None: where the reader is there."""
        following = self.at_end if follow is None else follow
        anchor = None if following else self.laid_out.anchor(self.scroll_offset.y)
        yield
        if following:
            self.go_to_end()
            return
        if anchor is not None and (row := self.laid_out.row_of(anchor)) != self.scroll_offset.y:
            self.scroll_to(y=row, animate=False)
        self._at_end = self.scroll_offset.y >= self.max_scroll_y

    def _fill(self) -> None:
        """There would be nothing to scroll, and so no way to what is above."""
        while self._branch.first and self.laid_out.width and self.laid_out.rows <= self.size.height:
            self._show_older()

    def _show_older(self) -> None:
        with self._changing():
            self._paint_from(self._branch.show_older())

    def _reach_up(self) -> None:
        if self._branch.first and self.scroll_offset.y < self.size.height:
            self._show_older()

    def _reach_down(self) -> None:
        if self.rows_below < self.size.height:
            if not self._branch.shows_end:
                with self._changing():
                    self._paint_from(self._branch.show_newer())
            self._show_added()

    # Moving

    def go_to_end(self) -> None:
        """Show the last row, and follow from here on."""
        self._at_end = True
        self.scroll_to(y=self.max_scroll_y, animate=False)

    def page(self, direction: int) -> None:
        """Scroll by a screenful, up (-1) or down (1), two rows of it kept."""
        if direction < 0 and self.scroll_offset.y == 0 and self._branch.first:
            self._show_older()
        self.scroll_relative(y=direction * max(1, self.size.height - 2), animate=False)

    def reveal(self, message_id: str, row: int | None = None) -> bool:
        """Scroll to a message of the branch, or to a row of it; False if it is not in it."""
        number = self.number_of(message_id)
        if number is None:
            return False
        if not self._branch.shows(number):
            with self._changing(follow=False):
                self._paint_from(self._branch.show_page_around(number))
            self._fill()
        top, bottom = self._branch.span(number)
        if row is None:
            self._show_rows(top, bottom)
        else:
            self._show_rows(top + max(0, row - 2), top + row + 3)
        return True

    def reveal_hit(self, message_id: str, ordinal: int) -> None:
        """Scroll to the `ordinal`-th of what the finder finds in a message, its files opened."""
        self.fold(message_id, unfolded=True)
        number = self.number_of(message_id)
        if self.finder is None or number is None or not self.reveal(message_id):
            return
        section = self._branch.section(number)
        hits = self.finder.hits(section, section.width)
        if ordinal < len(hits):
            hit = hits[ordinal]
            self.reveal(message_id, section.row_of(hit.block, hit.rows[0][0]))

    def _show_rows(self, first: int, last: int) -> None:
        """Scroll as little as need be for the rows from `first` up to `last` to be seen; of
        more than a screenful, the beginning."""
        top, height = self.scroll_offset.y, self.size.height
        if first < top or last - first >= height:
            top = first
        elif last > top + height:
            top = last - height
        self.scroll_to(y=top, animate=False)

    def action_first(self) -> None:
        """Show the beginning of the chat."""
        if self._branch.first:
            with self._changing(follow=False):
                self._paint_from(self._branch.show_first_page())
            self._fill()
        self.scroll_to(y=0, animate=False)

    def action_last(self) -> None:
        """Show the end of the chat, and follow it."""
        if not self._branch.shows_end:
            with self._changing(follow=True):
                self._paint_from(self._branch.show_last_page())
            self._fill()
        self._show_added()
        self.go_to_end()

    # Painting

    def _paint_from(self, row: int | None) -> None:
        """The layout changed from `row` on; None: nowhere."""
        # Before the first layout there is no width; that one ends in `on_resize`.
        if row is None or not self.laid_out.width:
            return
        self._painter.make_room()
        # A changed `virtual_size` has the whole screen laid out; the scroll bar is always
        # there, so nobody but the scroll bar has to know.
        size = Size(self.size.width, self.laid_out.rows + 1)
        self.set_reactive(ScrollView.virtual_size, size)
        self._move_scroll_bar()
        # Of a block that is made anew most rows come out as they were, and over a slow line a
        # screenful for every word is felt.
        first = max(0, row - self.scroll_offset.y)
        changed = [y for y in range(first, self.size.height) if self._comes_out_anew(y)]
        if changed:
            height = changed[-1] + 1 - changed[0]
            self.refresh(Region(0, changed[0], self.size.width, height))

    def _comes_out_anew(self, y: int) -> bool:
        """Whether a row of the screen is another than the one that was painted last."""
        before = self._painter.painted(self.scroll_offset.y + y)
        return before is None or self.render_line(y) is not before

    def _move_scroll_bar(self) -> None:
        """Once a second while a reply grows in view: a bar's rows cost as much as the text's."""
        now = time.monotonic()
        if self._branch.growing and self._at_end and now - self._bar_moved < BAR_SECONDS:
            return
        self._bar_moved = now
        bar = self.vertical_scrollbar
        bar.window_virtual_size = self.laid_out.rows + 1
        bar.window_size = self.size.height
        bar.position = self.scroll_y

    @property
    def _width(self) -> int:
        return max(8, self.scrollable_content_region.width - 2 * MARGIN)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows of `crop`, straight from the cache: there is no border, padding or link
        here, and the general way through Textual's style cache takes twice the time."""
        strips = [self.render_line(y) for y in crop.line_range]
        if crop.column_span != (0, self.size.width):
            strips = [strip.crop_extend(crop.x, crop.right, self.rich_style) for strip in strips]
        return strips

    def render_line(self, y: int) -> Strip:
        row = self.scroll_offset.y + y
        place = self.laid_out.place(row)
        return self._painter.paint(
            row, place, look_of(self.laid_out, place, self.selected_key, self.finder)
        )

    # What Textual tells

    def on_resize(self, event: events.Resize) -> None:
        if self._width != self.laid_out.width:
            with self._changing():
                self.laid_out.lay_out(self._width)
                self._painter.clear()
                self._paint_from(0)
        else:
            self._paint_from(self.laid_out.rows)
        if self.at_end:
            self.go_to_end()
        self._fill()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        if round(old_value) != round(new_value):
            self.refresh(self.size.region)
        self._at_end = round(new_value) >= self.max_scroll_y
        self._move_scroll_bar()
        # Later: whoever scrolls may be about to change what is laid out.
        if new_value < old_value and new_value < self.size.height and self._branch.first:
            self.call_later(self._reach_up)
        elif new_value > old_value and self.rows_below < self.size.height:
            self.call_later(self._reach_down)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._painter.clear_styles()

    # Selection with the mouse

    def selection_updated(self, selection: Selection | None) -> None:
        self._painter.clear()
        self.refresh()

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        first = selection.start.y if selection.start else 0
        last = min(selection.end.y if selection.end else self.laid_out.rows, self.laid_out.rows)
        spans: dict[int, tuple[int, int]] = {}
        for row in range(first, last + 1):
            start, end = selection.get_span(row) or (0, 0)
            spans[row] = max(0, start - MARGIN), -1 if end == -1 else max(0, end - MARGIN)
        return selected_text(self.laid_out, spans), "\n"

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
        if number is None:
            number = self._branch.lowest_above(self.scroll_offset.y + self.size.height)
        else:
            number += direction
        number = max(0, min(number, len(self.turns) - 1))
        self.select(self.turns[number].id)
        self.reveal(self.turns[number].id)
        self.focus(scroll_visible=False)

    def action_step(self, direction: int) -> None:
        """To the next message in a direction; through one that is higher than the screen."""
        number = self.number_of(self.selected_key)
        if number is not None and self._branch.shows(number):
            top, bottom = self._branch.span(number)
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
        if selected is None or not self._branch.can_fold(selected):
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
        place = self.laid_out.place(self.scroll_offset.y + event.y)
        if place.section < 0 or not self.turns:
            return
        message = self.turns[self._branch.first + place.section]
        section = self.laid_out.sections[place.section]
        arrow = arrow_at(section, place, event.x - MARGIN)
        if isinstance(section.blocks[place.block], FoldLine):
            self.fold(message.id)
        elif arrow:
            self.post_message(self.Asked("previous" if arrow == PREVIOUS else "next", message))
        else:
            self.select(None if message.id == self.selected_key else message.id)
