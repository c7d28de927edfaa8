"""A chat's shown branch, of any length: what is near the reader is laid out, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import events

from openchat_local.app.printable import printable
from openchat_local.app.tui.markdown.document import Document
from openchat_local.app.tui.markdown.layout import Section
from openchat_local.app.tui.markdown.messages import end_blocks, message_section, plain_blocks
from openchat_local.app.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage

PAGE = 20
"""Messages that are laid out at a time."""
MOST_LAID_OUT = 120
OUTSIDE = "── the model no longer sees what is above: the context is full ──"


class _Live:
    """The reply that is being written. `unshown` came while the reader was far above."""

    def __init__(self, message: StoredMessage) -> None:
        self.message = message
        self.document = Document(printable(message.content))
        self.unshown = ""


class BranchView(Transcript):
    """Shows turns and the reply that is being written; a section of the sheet for each turn."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.turns: list[StoredMessage] = []
        self._first = 0  # the turns laid out are those from here
        self._last = 0  # up to here
        self._outside = 0  # how many turns, from the first, the model does not see
        self._live: _Live | None = None
        self._unfolded: set[str] = set()

    # What is shown

    def show_text(self, text: str) -> None:
        """Show the program's own words and no turns."""
        self._forget()
        self.replace(0, len(self.sheet.sections), [Section("", plain_blocks(text))], follow=True)

    def show_turns(self, turns: Sequence[StoredMessage], outside: int = 0) -> None:
        """Show a branch at its end. `outside` turns at its beginning are grey."""
        self._forget()
        self.turns = list(turns)
        self._outside = min(outside, len(self.turns))
        self._mount_from(max(0, len(self.turns) - PAGE), len(self.turns), follow=True)

    def set_outside(self, outside: int) -> None:
        """The model does not see the first `outside` turns."""
        outside = min(outside, len(self.turns))
        if outside == self._outside:
            return
        before, self._outside = self._outside, outside
        for number in {before, outside} & {*range(self._first, self._last)}:
            self._make_anew(number)  # the line above it comes or goes
        for number in range(self._first, self._last):
            self.sheet.sections[number - self._first].faded = number < outside
        self.refresh()

    def update_turn(self, message: StoredMessage) -> None:
        """Show what has changed about a turn: its rating, its siblings."""
        number = self.number_of(message.id)
        if number is None:
            return
        self.turns[number] = message
        if self._first <= number < self._last:
            self._make_anew(number)

    def fold(self, message_id: str, *, unfolded: bool | None = None) -> None:
        """Open the files that went along with a prompt, or fold them: the other way round
        where it is not said which."""
        number = self.number_of(message_id)
        if unfolded is None:
            unfolded = message_id not in self._unfolded
        if number is None or unfolded == (message_id in self._unfolded):
            return
        self._unfolded ^= {message_id}
        if self._first <= number < self._last:
            self._make_anew(number)

    def number_of(self, key: str | None) -> int | None:
        """The number of the turn with this id in the branch."""
        for number in range(len(self.turns) - 1, -1, -1):
            if self.turns[number].id == key:
                return number
        return None

    def reveal(self, message_id: str, row: int | None = None) -> bool:
        """Scroll to a message of the branch, or to a row of it; False if it is not in it."""
        number = self.number_of(message_id)
        if number is None:
            return False
        if not self._first <= number < self._last:
            first = max(0, min(number - PAGE // 2, len(self.turns) - PAGE))
            self._mount_from(first, min(len(self.turns), first + PAGE))
        top, bottom = self.sheet.span(number - self._first)
        if row is None:
            self.show_rows(top, bottom)
        else:
            self.show_rows(top + max(0, row - 2), top + row + 3)
        return True

    def reveal_hit(self, message_id: str, ordinal: int) -> None:
        """Scroll to the `ordinal`-th of what the finder finds in a message, its files opened."""
        self.fold(message_id, unfolded=True)
        if self.finder is not None and self.reveal(message_id):
            section = self.sheet.sections[self.sheet.number(message_id)]
            hits = self.finder.hits(section, section.width)
            if ordinal < len(hits):
                hit = hits[ordinal]
                self.reveal(message_id, section.row_of(hit.block, hit.rows[0][0]))

    # A reply as it is written

    def begin_reply(self, message: StoredMessage) -> None:
        """A reply has begun under the last of the turns that stay: its siblings go."""
        parent = self.number_of(message.parent_id)
        stay = 0 if message.parent_id is None else len(self.turns) if parent is None else parent + 1
        del self.turns[stay:]
        self.turns.append(message)
        self._live = _Live(message)
        self.growing = True
        self._outside = min(self._outside, len(self.turns))
        if self._last >= stay and self._first < stay:
            self._last = stay + 1
            sections = self._sections(stay, stay + 1)
            self.replace(stay - self._first, len(self.sheet.sections), sections, follow=True)
        else:
            self._mount_from(max(0, len(self.turns) - PAGE), len(self.turns), follow=True)

    def grow_reply(self, text: str) -> None:
        """More of the reply that `begin_reply` started."""
        assert self._live is not None
        self._live.unshown += printable(text)
        if self.at_end or self.rows_below <= self.size.height:
            self._show_live()

    def end_reply(self, message: StoredMessage) -> None:
        """The reply is complete."""
        live, self._live = self._live, None
        self.growing = False
        if live is None:
            return
        self.turns[-1] = message
        if self._last == len(self.turns):
            live.document.append(live.unshown)
            blocks = [*live.document.blocks, *end_blocks(message)]
            section = Section(message.id, blocks, source=message.content)
            self.replace(len(self.sheet.sections) - 1, len(self.sheet.sections), [section])

    def _show_live(self) -> None:
        live = self._live
        if live is not None and live.unshown and self._last == len(self.turns):
            text, live.unshown = live.unshown, ""
            changed = live.document.append(text)
            number = len(self.sheet.sections) - 1
            self.grow(number, changed, live.document.blocks[changed:])

    # What is laid out

    def _forget(self) -> None:
        self.turns, self._live = [], None
        self._first = self._last = self._outside = 0
        self.growing = False

    def _made(self, number: int) -> Section:
        message = self.turns[number]
        if self._live is not None and message.id == self._live.message.id:
            return Section(message.id, self._live.document.blocks)
        unfolded = message.id in self._unfolded
        section = message_section(message, faded=number < self._outside, unfolded=unfolded)
        if number and number == self._outside:
            section.blocks[:0] = plain_blocks(OUTSIDE)  # nothing is found in it
        return section

    def _make_anew(self, number: int) -> None:
        at = number - self._first
        self.replace(at, at + 1, [self._made(number)])

    def _sections(self, first: int, last: int) -> list[Section]:
        """One section for each of the turns from `first` up to `last`."""
        return [self._made(number) for number in range(first, last)]

    def _mount_from(self, first: int, last: int, *, follow: bool = False) -> None:
        """Lay out these turns and no others, or as many more as fill the screen."""
        self._first, self._last = first, last
        self.replace(0, len(self.sheet.sections), self._sections(first, last), follow=follow)
        self._fill()

    def _fill(self) -> None:
        """There would be nothing to scroll, and so no way to what is above."""
        while self._first and self.sheet.width and self.sheet.rows <= self.size.height:
            self._mount_older()

    def _mount_older(self) -> None:
        """Lay out a page of turns above those that are."""
        first = max(0, self._first - PAGE)
        sections = self._sections(first, self._first)
        self._first = first
        self.replace(0, 0, sections)
        if self._last - first > MOST_LAID_OUT:
            self._last = first + MOST_LAID_OUT
            self.replace(MOST_LAID_OUT, len(self.sheet.sections), [])

    def _mount_newer(self) -> None:
        """Lay out a page of turns below those that are."""
        last = min(len(self.turns), self._last + PAGE)
        end = len(self.sheet.sections)
        self.replace(end, end, self._sections(self._last, last))
        self._last = last  # not before: a reader at the end of a page is not at the end
        if (gone := self._last - self._first - MOST_LAID_OUT) > 0:
            self._first += gone
            self.replace(0, gone, [])

    @property
    def at_end(self) -> bool:
        return super().at_end and self._last == len(self.turns)

    # Moving

    def page(self, direction: int) -> None:
        if direction < 0 and self.scroll_offset.y == 0 and self._first:
            self._mount_older()
        super().page(direction)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        # Later: whoever scrolls may be about to change what is laid out.
        if new_value < old_value and new_value < self.size.height and self._first:
            self.call_later(self._reach_up)
        elif new_value > old_value and self.rows_below < self.size.height:
            self.call_later(self._reach_down)

    def _reach_up(self) -> None:
        if self._first and self.scroll_offset.y < self.size.height:
            self._mount_older()

    def _reach_down(self) -> None:
        if self.rows_below < self.size.height:
            if self._last < len(self.turns):
                self._mount_newer()
            self._show_live()

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self._fill()

    def action_first(self) -> None:
        """Show the beginning of the chat."""
        if self._first:
            self._mount_from(0, min(PAGE, len(self.turns)))
        self.scroll_to(y=0, animate=False)

    def action_last(self) -> None:
        """Show the end of the chat, and follow it."""
        if self._last < len(self.turns):
            self._mount_from(max(0, len(self.turns) - PAGE), len(self.turns), follow=True)
        self._show_live()
        self.go_to_end()
