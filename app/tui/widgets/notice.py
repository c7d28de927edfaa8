"""One sentence that the user should read, above the prompt, until their next action."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from openchat_local.app.printable import printable


class Notice(Static):
    """Hidden while there is nothing to say; wraps when the sentence is long."""

    DEFAULT_CSS = """
    Notice {
        display: none;
        height: auto;
        max-height: 6;
        padding: 0 2;
        color: $text-accent;
        &.-shown { display: block; }
        &.-error { color: $text-error; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self.text = ""

    def tell(self, sentence: str, *, error: bool = False) -> None:
        """Show `sentence` in place of what was there."""
        self.text = sentence
        self.update(Content(printable(sentence)))
        self.set_class(error, "-error")
        self.add_class("-shown")

    def dismiss(self) -> None:
        if self.text:
            self.text = ""
            self.remove_class("-shown", "-error")
