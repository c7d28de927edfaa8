"""What may follow in the prompt, listed above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from openchat_local.app.printable import one_line

LABEL_CELLS = 26
ROWS = 8


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What may follow in the prompt. `insert` takes the place of the last `length` characters
    before the cursor."""

    label: str
    note: str
    insert: str
    length: int
    is_command: bool = False


class Suggestions(OptionList, can_focus=False):
    """Hidden while there is nothing to suggest; the keys are the prompt's. It lies over the end
    of the chat: what stands there stays where it is."""

    DEFAULT_CSS = f"""
    Suggestions {{
        display: none;
        overlay: screen;
        height: auto;
        max-height: {ROWS};
        border: none;
        padding: 0 1;
        margin: 0 1;
        background: $surface;
        text-wrap: nowrap;
        text-overflow: ellipsis;
        scrollbar-size-vertical: 1;
        & > .option-list--option-highlighted {{ background: $foreground 15%; text-style: none; }}
        &.-shown {{ display: block; }}
    }}
    """

    class Taken(Message):
        """The user clicked on a suggestion."""

        def __init__(self, suggestion: Suggestion) -> None:
            super().__init__()
            self.suggestion = suggestion

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._listed: Sequence[Suggestion] = ()
        self.moved = False

    def show(self, suggestions: Sequence[Suggestion]) -> None:
        """List these; none hides the widget."""
        self.moved = False
        self.set_class(bool(suggestions), "-shown")
        self.styles.offset = (0, -min(len(suggestions), ROWS))
        if suggestions == self._listed:
            return
        self._listed = suggestions
        self.set_options(Option(_line(each)) for each in suggestions)
        self.highlighted = 0 if suggestions else None

    @property
    def current(self) -> Suggestion | None:
        """The suggestion that Tab takes; None while hidden."""
        if not self.has_class("-shown") or self.highlighted is None:
            return None
        return self._listed[self.highlighted]

    def move(self, direction: int) -> None:
        """To the suggestion above (-1) or below (1), around the ends."""
        self.moved = True
        (self.action_cursor_up if direction < 0 else self.action_cursor_down)()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Taken(self._listed[event.option_index]))


def _line(suggestion: Suggestion) -> Content:
    label = one_line(suggestion.label)
    if cell_len(label) < LABEL_CELLS and suggestion.note:
        label = set_cell_size(label, LABEL_CELLS)
    note = f" {one_line(suggestion.note)}" if suggestion.note else ""
    return Content.assemble(label, (note, "dim"))
