"""What the votes so far say, and what may be done next."""

from __future__ import annotations

from collections.abc import Mapping

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from openchat_local.app.printable import one_line, printable
from openchat_local.app.tui.questions.choose_one import ChooseOne


class AskVerdict(ChooseOne):
    """Gives the name of what is chosen, or None. What comes first changes nothing: Enter may be
    meant for the vote before."""

    DEFAULT_CSS = """
    AskVerdict { align: center middle; }
    AskVerdict Static { margin-bottom: 1; color: $foreground; }
    """

    def __init__(self, title: str, sentence: str, choices: Mapping[str, str]) -> None:
        super().__init__(title, list(choices), "", sentence)
        self._choices = choices

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Content(one_line(self._title))
            box.border_subtitle = "Enter chooses · Esc goes on"
            yield Static(Content(printable(self._hint)), markup=False)
            lines = (Content(one_line(words)) for words in self._choices.values())
            yield OptionList(*(Option(line) for line in lines), markup=False)
