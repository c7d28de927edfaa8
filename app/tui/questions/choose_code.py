"""Which of several code blocks is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from openchat_local.app.printable import one_line
from openchat_local.app.tui.markdown.code import Code

FIRST_LINE = 60


class ChooseCode(ModalScreen[Code | None]):
    """Gives the chosen block, or None. A digit chooses at once."""

    DEFAULT_CSS = """
    ChooseCode { align: center middle; }
    ChooseCode > Vertical {
        width: 76;
        max-width: 95%;
        height: auto;
        max-height: 80%;
        border: round $primary;
        background: $surface;
        padding: 0 1;
    }
    ChooseCode OptionList { height: auto; max-height: 20; border: none; background: $surface; }
    ChooseCode OptionList:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Close"),
        *(
            Binding(f"{digit}", f"choose({digit})", "The block of that number", show=False)
            for digit in range(1, 10)
        ),
    ]

    def __init__(self, blocks: Sequence[Code]) -> None:
        super().__init__()
        self._blocks = blocks

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content("Copy which code block? Enter or its number · Esc closes"))
            yield OptionList(
                *(Option(self._line(n, block)) for n, block in enumerate(self._blocks, 1)),
                markup=False,
            )

    @staticmethod
    def _line(number: int, block: Code) -> Content:
        lines = block.text.count("\n") or 1
        about = f"{block.language or 'code'}, {lines} line{'' if lines == 1 else 's'}"
        return Content(f"{number}  {one_line(about)}  {one_line(block.first_line)[:FIRST_LINE]}")

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        self.dismiss(self._blocks[message.option_index])

    def action_choose(self, number: int) -> None:
        if number <= len(self._blocks):
            self.dismiss(self._blocks[number - 1])
