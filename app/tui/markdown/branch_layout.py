"""A chat's shown branch, of any length: what is near the reader is laid out, and no more.

Nothing here knows the screen. What changes the layout returns the first row that changed, or
None where nothing did; whoever paints keeps the reader's place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from openchat_local.app.tui.markdown.layout import Layout, Section
from openchat_local.app.tui.markdown.live import LiveReply
from openchat_local.app.tui.markdown.sections import (
    end_blocks,
    has_files,
    has_thoughts,
    message_section,
    origin,
    plain_blocks,
    what_it_says,
)

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage
    from openchat_local.app.chats.who_wrote import Answerer
    from openchat_local.app.tui.markdown.blocks import Block

PAGE = 20
"""Messages that are laid out at a time."""
MOST_LAID_OUT = 120
OUTSIDE = "── the model no longer sees what is above: the context is full ──"


class BranchLayout:
    """The turns of a branch, and a section of the layout for each from `first` up to `last`."""

    def __init__(self) -> None:
        self.layout = Layout()
        self.turns: list[StoredMessage] = []
        self.first = 0
        self.last = 0
        self.outside = 0  # how many turns, from the first, the model does not see
        self._now: Answerer | None = None
        self._live: LiveReply | None = None
        self._unfolded: set[str] = set()

    @property
    def growing(self) -> bool:
        """Whether a reply is being written."""
        return self._live is not None

    @property
    def shows_end(self) -> bool:
        """Whether the end of the branch is laid out."""
        return self.last == len(self.turns)

    @property
    def _most_outside(self) -> int:
        """A reply is never written without its prompt, so both are inside."""
        return len(self.turns) if self._live is None else max(0, len(self.turns) - 2)

    def number_of(self, key: str | None) -> int | None:
        """The number of the turn with this id in the branch."""
        for number in range(len(self.turns) - 1, -1, -1):
            if self.turns[number].id == key:
                return number
        return None

    def shows(self, number: int) -> bool:
        """Whether a turn is laid out."""
        return self.first <= number < self.last

    def span(self, number: int) -> tuple[int, int]:
        """The first row of a turn that is laid out, and the one behind its last."""
        return self.layout.span(number - self.first)

    def section(self, number: int) -> Section:
        """The section of a turn that is laid out."""
        return self.layout.sections[number - self.first]

    def lowest_above(self, row: int) -> int:
        """The lowest turn that begins above a row; where none does, the first laid out."""
        for number in range(self.last - 1, self.first, -1):
            if self.span(number)[0] < row:
                return number
        return self.first

    # What is shown

    def show_blocks(self, blocks: Iterable[Block]) -> int:
        """Show these blocks and no turns."""
        self._forget()
        return self.layout.replace(0, len(self.layout.sections), [Section("", blocks)])

    def show_turns(self, turns: Sequence[StoredMessage], outside: int = 0) -> int:
        """Show a branch at its end; the model does not see `outside` turns at its beginning."""
        self._forget()
        self.turns = list(turns)
        self.outside = min(outside, len(self.turns))
        return self.show_last_page()

    def set_outside(self, outside: int) -> int | None:
        """The model does not see the first `outside` turns."""
        outside = min(outside, self._most_outside)
        if outside == self.outside:
            return None
        before, self.outside = self.outside, outside
        for number in range(self.first, self.last):
            self.section(number).faded = number < outside
        for number in (before, outside):
            self._make_anew(number)  # the line above it comes or goes
        return 0

    def update_turn(self, message: StoredMessage) -> int | None:
        """Show what has changed about a turn: its rating, its siblings."""
        number = self.number_of(message.id)
        if number is None:
            return None
        self.turns[number] = message
        return self._make_anew(number)

    def set_answerer(self, now: Answerer) -> int | None:
        """Somebody else may give the next reply: who wrote those that there are is worth a word
        where it was none, or the other way round."""
        before, self._now = self._now, now
        changed = [
            self._make_anew(number)
            for number in range(self.first, self.last)
            if origin(self.turns[number], before) != origin(self.turns[number], now)
        ]
        return min((row for row in changed if row is not None), default=None)

    def can_fold(self, message: StoredMessage) -> bool:
        """Whether there is something in a message that is folded at first."""
        if self._live is not None and message.id == self._live.message.id:
            return self._live.thinks
        return has_files(message) or has_thoughts(message)

    def fold(self, message_id: str, *, unfolded: bool | None = None) -> int | None:
        """Open the files that went along with a prompt or what a reply thought, or fold them;
        None does whichever is not so yet."""
        number = self.number_of(message_id)
        if unfolded is None:
            unfolded = message_id not in self._unfolded
        if number is None or unfolded == (message_id in self._unfolded):
            return None
        self._unfolded ^= {message_id}
        return self._make_anew(number)

    # A reply as it is written

    def begin_reply(self, message: StoredMessage) -> int:
        """A reply has begun under the last of the turns that stay: its siblings go."""
        parent = self.number_of(message.parent_id)
        stay = 0 if message.parent_id is None else len(self.turns) if parent is None else parent + 1
        del self.turns[stay:]
        self.turns.append(message)
        self._live = LiveReply(message)
        if self.outside > self._most_outside:
            self.outside = self._most_outside
            return self.show_last_page()
        if not self.first < stay <= self.last:
            return self.show_last_page()
        self.last = stay + 1
        at = stay - self.first
        return self.layout.replace(at, len(self.layout.sections), self._sections(stay, stay + 1))

    def add(self, text: str) -> None:
        """Take more of the reply that `begin_reply` started; `show_added` shows it."""
        assert self._live is not None
        self._live.add(text)

    def note_thinking(self, tokens: int, seconds: float) -> None:
        """How much that reply has thought; `show_added` shows it."""
        if self._live is not None:
            self._live.note(tokens, seconds)

    def show_added(self) -> int | None:
        """Show what was added, if the reply is laid out."""
        live = self._live
        if live is None or not self.shows_end:
            return None
        taken = live.take(unfolded=live.message.id in self._unfolded)
        if taken is None:
            return None
        return self.layout.grow(len(self.layout.sections) - 1, *taken)

    def end_reply(self, message: StoredMessage) -> int | None:
        """The reply is complete."""
        live, self._live = self._live, None
        if live is None:
            return None
        self.turns[-1] = message
        if not self.shows_end:
            return None
        written = live.ended(message, unfolded=message.id in self._unfolded)
        blocks = [*written, *end_blocks(message, self._now)]
        section = Section(message.id, blocks, source=what_it_says(message))
        end = len(self.layout.sections)
        return self.layout.replace(end - 1, end, [section])

    # What is laid out

    def show_first_page(self) -> int:
        """Lay out the beginning of the branch, and nothing else."""
        return self._show_page(0)

    def show_last_page(self) -> int:
        """Lay out the end of the branch, and nothing else."""
        return self._show_page(len(self.turns) - PAGE)

    def show_page_around(self, number: int) -> int:
        """Lay out a turn and what stands around it, and nothing else."""
        return self._show_page(min(number - PAGE // 2, len(self.turns) - PAGE))

    def show_older(self) -> int:
        """Lay out a page of turns above those that are; of too many, the last ones go."""
        before, self.first = self.first, max(0, self.first - PAGE)
        changed = self.layout.replace(0, 0, self._sections(self.first, before))
        if self.last - self.first > MOST_LAID_OUT:
            self.last = self.first + MOST_LAID_OUT
            self.layout.replace(MOST_LAID_OUT, len(self.layout.sections), [])
        return changed

    def show_newer(self) -> int:
        """Lay out a page of turns below those that are; of too many, the first ones go."""
        before, self.last = self.last, min(len(self.turns), self.last + PAGE)
        end = len(self.layout.sections)
        changed = self.layout.replace(end, end, self._sections(before, self.last))
        if (gone := self.last - self.first - MOST_LAID_OUT) > 0:
            self.first += gone
            return self.layout.replace(0, gone, [])
        return changed

    def _forget(self) -> None:
        self.turns, self._live = [], None
        self.first = self.last = self.outside = 0

    def _show_page(self, first: int) -> int:
        self.first = max(0, first)
        self.last = min(len(self.turns), self.first + PAGE)
        sections = self._sections(self.first, self.last)
        return self.layout.replace(0, len(self.layout.sections), sections)

    def _make_anew(self, number: int) -> int | None:
        if not self.shows(number):
            return None
        at = number - self.first
        return self.layout.replace(at, at + 1, self._sections(number, number + 1))

    def _sections(self, first: int, last: int) -> list[Section]:
        """One section for each of the turns from `first` up to `last`."""
        return [self._made(number) for number in range(first, last)]

    def _made(self, number: int) -> Section:
        message = self.turns[number]
        if self._live is not None and message.id == self._live.message.id:
            return Section(message.id, self._live.blocks(unfolded=message.id in self._unfolded))
        unfolded = message.id in self._unfolded
        faded = number < self.outside
        section = message_section(message, faded=faded, unfolded=unfolded, now=self._now)
        if number and number == self.outside:
            section.blocks[:0] = plain_blocks(OUTSIDE)  # nothing is found in it
        return section
