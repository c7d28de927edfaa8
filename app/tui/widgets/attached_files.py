"""The files that the prompt mentions, one line each, above it."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from openchat_local.app.printable import printable


class AttachedFiles(Static):
    """Hidden while there is none."""

    DEFAULT_CSS = """
    AttachedFiles {
        display: none;
        height: auto;
        max-height: 6;
        padding: 0 2;
        color: $foreground 70%;
        &.-shown { display: block; }
    }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show(self, lines: list[str]) -> None:
        """Show these lines; none hides the widget."""
        self.set_class(bool(lines), "-shown")
        self.update(Content(printable("\n".join(lines))))
