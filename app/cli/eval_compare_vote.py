"""Pair after pair is shown to a person, who says which answer is better without knowing whose."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from openchat_local.app.cli.eval_compare_view import Row, bold, dim, fitted, page_of, painted
from openchat_local.app.cli.keyboard import Keyboard, Screen

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.compare.ballot import Ballot
    from openchat_local.finetune.evaluation.compare.pairs import Vote

End = Literal["done", "stopped", "interrupted"]

# Nobody has read two answers by then, and a key that is held down comes again by then: 0.66 s
# are the longest delay that desktops begin with. A key in this time begins it again.
GUARD = 0.8  # seconds
_LOOK = 0.25  # seconds after which the size of the terminal is looked at again
_VOTES: dict[str, Vote] = {
    "1": "first", "2": "second", "t": "tie", "b": "both bad", "s": "skip"
}  # fmt: skip
_KEYS = "1 or 2 is better · t tie · b both bad · s skip · u undo · q stop"
_LAST = "All are judged. Enter: who was who · u undo · q stop"


def vote(ballot: Ballot) -> End:
    """Ask about every pair without a vote. "done" once all have one and the person wants to see
    who was who; every vote is on disk when the next pair is shown. Raises OSError."""
    with Screen() as screen, Keyboard() as keyboard:
        booth = Booth(ballot, screen.size)
        shown: list[str] = []
        while booth.end is None:
            booth.resize(screen.size)
            lines = booth.lines()
            if lines != shown:
                screen.paint(lines)
                shown = lines
            try:
                booth.press(keyboard.read(min(_LOOK, booth.guarded or _LOOK)))
            except EOFError:
                booth.end = "stopped"
        return booth.end


@dataclass(slots=True)
class Booth:
    """What is shown, and what a key does: all but the terminal itself."""

    ballot: Ballot
    size: tuple[int, int]  # columns, rows
    clock: Callable[[], float] = time.monotonic
    end: End | None = None
    _top: int = 0  # the first row of the page that is shown
    _until: float = 0.0  # no key votes before
    _page: list[Row] = field(default_factory=list)
    _last: str = ""

    def __post_init__(self) -> None:
        self._turn_to()

    @property
    def guarded(self) -> float:
        """Seconds until a key votes; 0 where it does."""
        return max(0.0, self._until - self.clock())

    def resize(self, size: tuple[int, int]) -> None:
        """The terminal has this size now."""
        if size != self.size:
            share = self._top / max(1, len(self._page))
            self.size = size
            self._page = self._paged()
            self._scroll_to(int(share * len(self._page)))

    def lines(self) -> list[str]:
        """The rows of the screen."""
        columns, rows = self.size
        room = self._room
        shown = self._page[self._top : self._top + room]
        body = [painted(row, columns) for row in shown]
        body += [""] * (room - len(body))
        below = len(self._page) - self._top - room
        where = f" ↓ {below} more lines, Space or arrows " if below > 0 else ""
        where = where or (" ↑ arrows go back " if self._top else "")
        rule = dim(fitted(f"──{where}".ljust(columns, "─"), columns))
        keys = _KEYS if self.ballot.current is not None else _LAST
        footer = dim(fitted("…", columns)) if self.guarded else fitted(keys, columns)
        return [bold(fitted(self._title(), columns)), *body, rule, footer][:rows]

    def press(self, keys: list[str]) -> None:
        """Do what `keys`, which came in one breath, say."""
        if {"ctrl+c", "ctrl+d"} & {*keys}:
            self.end = "interrupted" if "ctrl+c" in keys else "stopped"
            return
        if len(keys) > 1 and any(len(key) == 1 for key in keys):
            keys = []  # a paste, or a cat: nobody presses two in a thousandth of a second
            self._until = self.clock() + GUARD
        for key in keys:
            if not self._moved(key):
                self._chosen(key)

    def _moved(self, key: str) -> bool:
        page = max(1, self._room - 2)
        steps = {"up": -1, "down": 1, "k": -1, "j": 1, "space": page, "pagedown": page,
                 "pageup": -page, "home": -len(self._page), "end": len(self._page)}  # fmt: skip
        if key in steps:
            self._scroll_to(self._top + steps[key])
        return key in steps

    def _chosen(self, key: str) -> None:
        if key == "q":
            self.end = "stopped"
        elif self.guarded:
            self._until = self.clock() + GUARD
        elif key == "u" and self.ballot.undo():
            self._last = "the last vote is taken back"
            self._turn_to()
        elif self.ballot.current is None:
            if key == "enter":
                self.end = "done"
        elif key in _VOTES:
            self.ballot.cast(_VOTES[key])
            self._last = f"the vote before: {_in_words(_VOTES[key])}"
            self._turn_to()

    def _turn_to(self) -> None:
        self._page, self._top = self._paged(), 0
        self._until = self.clock() + GUARD

    def _paged(self) -> list[Row]:
        pair = self.ballot.current
        if pair is None:
            return [Row(""), Row("That was the last pair.", strong=True)]
        return page_of(pair, self.size[0])

    def _scroll_to(self, top: int) -> None:
        self._top = max(0, min(top, len(self._page) - self._room))

    @property
    def _room(self) -> int:
        return max(1, self.size[1] - 3)

    def _title(self) -> str:
        pair, total = self.ballot.current, len(self.ballot.pairs)
        parts = [f"{min(self.ballot.done + 1, total)} of {total}"]
        if pair is not None and pair.prompt.category:
            parts.append(pair.prompt.category)
        return " · ".join([*parts, self._last] if self._last else parts)


def _in_words(vote: Vote) -> str:
    return {"first": "1", "second": "2"}.get(vote, vote)
