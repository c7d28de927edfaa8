"""The rules of learning: what became of a reply, which class that makes it, and what that is
worth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.cells import set_cell_size
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from openchat_local.app.printable import one_line, printable
from openchat_local.app.tui.questions.choose_one import ChooseOne
from openchat_local.app.tui.questions.line import AskLine
from openchat_local.app.tui.widgets.notice import ERROR
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.settings.model import Settings
    from openchat_local.app.settings.words import Key

NAME_CELLS = 34
ABOUT = (
    "The model learns to tell the classes apart by their names, and answers under that of the "
    "best: so it learns from bad replies too, without giving them. What a class is worth says "
    "how much each of its replies counts."
)
CLASSES = (("expert", "expert"), ("middle", "middle"), ("suboptimal", "sub-optimal"))
"""The names of the classes in the settings, and their own."""


class Rule(NamedTuple):
    """A row: the setting that it shows, its value as it is written, and what it may be; no
    setting for a heading."""

    key: Key
    name: str
    value: str = ""
    choices: tuple[str, ...] = ()
    shown: str = ""


class LearnRules(ModalScreen[None]):
    """Enter changes a row. What is changed is in the settings file at once."""

    DEFAULT_CSS = """
    LearnRules { align: center middle; }
    LearnRules > Vertical {
        width: 76;
        max-width: 100%;
        height: auto;
        max-height: 100%;
        padding: 0 1;
        border: round $primary;
        background: $surface;
    }
    LearnRules OptionList {
        height: auto;
        max-height: 1fr;
        border: none;
        padding: 0;
        background: $surface;
        & > .option-list--option-highlighted { background: $foreground 12%; text-style: none; }
        & > .option-list--option-disabled { color: $text-primary; }
        &:focus { border: none; }
    }
    LearnRules Static { height: auto; padding: 0 1; margin-top: 1; color: $foreground 70%; }
    LearnRules Static.-error { color: $text-error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close"),
        Binding("delete", "to_default", "Back to the default"),
    ]

    def __init__(self, settings: Settings, changed: Callable[[Settings], None]) -> None:
        """`changed` gets the settings after each change."""
        super().__init__()
        self._settings = settings
        self._changed = changed
        self._rows: list[Rule] = []

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "What counts as what"
            box.border_subtitle = "Enter changes · Del default · Esc closes"
            yield OptionList(markup=False)
            yield Static(Content(ABOUT), markup=False)

    def on_mount(self) -> None:
        self._fill()
        self.query_one(OptionList).highlighted = 1
        self.query_one(OptionList).focus()

    def _fill(self) -> None:
        self._rows = list(rules_rows(self._settings))
        options = self.query_one(OptionList)
        highlighted = options.highlighted
        options.set_options(Option(_line(row), disabled=not row.key) for row in self._rows)
        options.highlighted = highlighted

    def _tell(self, sentence: str, *, error: bool = False) -> None:
        about = self.query_one(Static)
        about.set_class(error, "-error")
        about.update(Content(f"{ERROR if error else ''}{printable(sentence)}"))

    @work(exclusive=True)
    async def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        row = self._rows[event.option_index]
        screen: Screen[str | None]
        if row.choices:
            screen = ChooseOne(row.name, row.choices, row.value, "What such replies are taken as.")
        else:
            hint = "Empty is the default." + (
                " The name under which the model learns this class." if "name" in row.name else ""
            )
            screen = AskLine(row.name, row.value, hint)
        text = await self.app.push_screen_wait(screen)
        if text is not None and text != row.value:
            await self._change(row, text)

    @work(exclusive=True)
    async def action_to_default(self) -> None:
        highlighted = self.query_one(OptionList).highlighted
        if highlighted is not None and self._rows[highlighted].key:
            await self._change(self._rows[highlighted], "")

    async def _change(self, row: Rule, text: str) -> None:
        from openchat_local.app.learning.rules import rules_of
        from openchat_local.app.settings.edit import change_setting

        try:
            settings = await asyncio.to_thread(change_setting, self._settings, row.key, text)
            try:
                rules_of(settings)
            except OpenChatError:  # each value may be, but not together: as it was
                await asyncio.to_thread(change_setting, self._settings, row.key, row.value)
                raise
        except OpenChatError as problem:
            self._tell(str(problem), error=True)
            return
        self._settings = settings
        self._fill()
        self._tell(ABOUT)
        self._changed(settings)


def rules_rows(settings: Settings) -> Iterator[Rule]:
    """What each kind of reply is taken as; then what the classes are called, and are worth."""
    from typing import get_args

    from openchat_local.app.learning.rules import Judgement
    from openchat_local.app.settings.learning import LearnedAs

    learning = settings.learning
    yield Rule((), "A reply that was … is")
    for judgement in Judgement:
        value = str(getattr(learning, judgement))
        name = judgement.in_words
        yield Rule(("learning", str(judgement)), name, value, get_args(LearnedAs), value)
    yield Rule((), "What a class is worth, and is called to the model")
    for key, name in CLASSES:
        section = getattr(learning, key)
        yield Rule(("learning", key, "reward"), f"{name}, worth", f"{section.reward:g}")
        called = section.condition
        shown = called or "the model's own name for its best"
        yield Rule(("learning", key, "condition"), f"{name}, name", called, shown=shown)


def _line(row: Rule) -> str:
    if not row.key:
        return row.name
    return (
        f"{set_cell_size(one_line(f'  {row.name}'), NAME_CELLS)} {one_line(row.shown or row.value)}"
    )
