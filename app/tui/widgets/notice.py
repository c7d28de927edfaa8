"""One sentence that the user should read, above the prompt, until their next action.

What went well goes by itself once it can have been read; what went wrong stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

from openchat_local.app.printable import printable

if TYPE_CHECKING:
    from textual.timer import Timer

SECONDS = 6.0
CHARACTERS_A_SECOND = 12
ERROR = "✗ "
"""Stands before what went wrong, for those who see no colours."""


class Notice(Static):
    """Hidden while there is nothing to say; wraps when the sentence is long."""

    DEFAULT_CSS = """
    Notice {
        display: none;
        height: auto;
        max-height: 6;
        padding: 0 2;
        color: $foreground;
        &.-shown { display: block; }
        &.-error { color: $text-error; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self.text = ""
        self._timer: Timer | None = None

    def tell(self, sentence: str, *, error: bool = False, stays: bool = False) -> None:
        """Show `sentence` in place of what was there; for as long as it takes to be read, or
        until the next action where it is an error or `stays`."""
        self._stop()
        self.text = sentence
        self.update(Content(f"{ERROR if error else ''}{printable(sentence)}"))
        self.set_class(error, "-error")
        self.add_class("-shown")
        if not error and not stays:
            seconds = SECONDS + len(sentence) / CHARACTERS_A_SECOND
            self._timer = self.set_timer(seconds, self.dismiss)

    def add(self, sentence: str) -> None:
        """Show `sentence`, which comes without an action of the user's, below what stays to be
        read, or alone; it stays as well."""
        stays = self.text and self._timer is None
        error = bool(stays) and self.has_class("-error")
        before = [self.text] if stays else []
        self.tell("\n".join([*before, sentence]), error=error, stays=True)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def dismiss(self) -> None:
        """Say nothing any more."""
        self._stop()
        if self.text:
            self.text = ""
            self.remove_class("-shown", "-error")
