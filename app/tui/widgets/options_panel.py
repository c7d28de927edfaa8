"""The options of the active chat, on the right: seen at a glance, changed with Enter."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len, set_cell_size
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from openchat_local.app.printable import one_line
from openchat_local.app.replies.thinking import why_fixed
from openchat_local.app.settings.per_chat import SAMPLING_NAMES, THINKING, in_words
from openchat_local.app.settings.who_answers import answerer, condition_in_words
from openchat_local.app.tui.dates import day_and_time

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat
    from openchat_local.app.settings.per_chat import EffectiveSettings
    from openchat_local.models.engine.protocol import LoadedModel

WIDTH = 46
BESIDE_FROM_COLUMNS = 120
_LABEL_CELLS = 15
_VALUE_CELLS = WIDTH - 4 - 2 - _LABEL_CELLS  # border, padding and scroll bar; the mark

Row = tuple[str, str, str, bool]
"""The command that changes it ("" for none), label, value, and whether it is the chat's own. What
has a value and no command cannot be changed here: the value says why."""
ELSEWHERE = "not at "
"""How the value begins of what the remote engine that answers does not have; its command says
why."""


class OptionsPanel(OptionList):
    """Says which row the user wants to change; it changes nothing itself."""

    DEFAULT_CSS = f"""
    OptionsPanel {{
        display: none;
        width: {WIDTH};
        height: 1fr;
        border: none;
        border-left: vkey $foreground 20%;
        padding: 0 1;
        background: $surface;
        scrollbar-size-vertical: 1;
        &:focus {{ border: none; border-left: vkey $primary; }}
        & > .option-list--option-highlighted {{ background: $foreground 12%; text-style: none; }}
        & > .option-list--option-disabled {{ color: $text-primary; }}
        &.-over {{ layer: above; dock: right; }}
        &.-shown {{ display: block; }}
    }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "screen.toggle_panel", "Close it", show=False)
    ]

    class Wanted(Message):
        """The user wants to change what this command changes."""

        def __init__(self, command: str) -> None:
            super().__init__()
            self.command = command

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._rows: list[Row] = []

    @property
    def shown(self) -> bool:
        """Whether it is on the screen."""
        return self.has_class("-shown")

    def toggle(self) -> None:
        """Put it on the screen, or take it away."""
        self.toggle_class("-shown")

    @property
    def columns_beside(self) -> int:
        """How many columns it takes away from the chat."""
        return WIDTH if self.shown and not self.has_class("-over") else 0

    def fit(self, columns: int) -> None:
        """Beside the chat where the window has room for that, else above it."""
        self.set_class(columns < BESIDE_FROM_COLUMNS, "-over")

    def show(
        self,
        now: EffectiveSettings,
        chat: Chat | None,
        loaded: LoadedModel | None,
        presets: Sequence[str],
    ) -> None:
        """Show the options in force, and who answers of what is loaded."""
        rows = list(_rows(now, chat, loaded, presets))
        if rows == self._rows:
            return
        highlighted = self.highlighted or 1
        self._rows = rows
        self.set_options(
            Option(Content.styled(_line(row), _style(row)), disabled=not row[0]) for row in rows
        )
        self.highlighted = highlighted

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Wanted(self._rows[event.option_index][0]))


def _rows(
    now: EffectiveSettings, chat: Chat | None, loaded: LoadedModel | None, presets: Sequence[str]
) -> Iterator[Row]:
    who = answerer(now, loaded)

    def row(name: str, label: str, value: object, shown: str | None = None) -> Row:
        text = in_words(name, value) if shown is None else shown
        return name.replace("_", "-"), label, text, name in now.own

    yield "", "This chat", "", False
    yield "title", "title", chat.title if chat else "", False
    yield "tag", "tags", " ".join(f"#{tag}" for tag in chat.tags) if chat else "", False
    yield "pin", "pinned", "yes" if chat and chat.pinned else "no", False
    yield "private", "private", "yes" if chat and chat.private else "no", False
    yield "", "Who answers, and how", "", False
    yield row("model", "model", now.model, who.model)
    place = None if loaded is None else loaded.remote
    elsewhere = None if place is None else f"{ELSEWHERE}{place.place}"
    adapters = place is None or place.can.adapters
    yield row("adapter", "adapter", now.adapter, (who.adapter or "none") if adapters else elsewhere)
    conditions = place is None or place.can.conditions
    condition = condition_in_words(now.condition, loaded) if conditions else elsewhere
    yield row("condition", "condition", now.condition, condition)
    system = in_words("system_prompt", now.system_prompt).replace("\n", " ")
    yield "system", "system prompt", system, "system_prompt" in now.own
    fixed = None if loaded is None else why_fixed(loaded)
    if fixed is None:
        yield "think", THINKING, now.sampling.thinking, THINKING in now.own
    elif elsewhere is not None and place is not None and not place.can.thinking_known:
        yield "", THINKING, elsewhere, False
    else:
        yield "", THINKING, fixed.removeprefix("this model's ").removeprefix("this "), False
    yield "", "How the next token is chosen", "", False
    for name in SAMPLING_NAMES:
        if name == THINKING:
            continue
        missed = place is not None and place.misses(name) is not None
        value = getattr(now.sampling, name)
        yield row(name, name.replace("_", " "), value, elsewhere if missed else None)
    yield "", "Presets", "", False
    yield "preset", "use one", ", ".join(presets) or "there is none yet", False
    yield "preset save", "keep as one", "", False
    if chat is not None:
        now_is = time.time()
        yield "", "", "", False
        yield "", f"Begun: {day_and_time(chat.created_at, now_is)}", "", False
        yield "", f"Messages: {chat.message_count}", "", False


def _style(row: Row) -> str:
    command, _, value, own = row
    greyed = not command and bool(value)
    absent = value.startswith(ELSEWHERE) and command not in ("title", "tag", "system")
    return "bold" if own and not absent else "$foreground 45%" if greyed or absent else ""


def _line(row: Row) -> str:
    """The row in one line, the chat's own values with a mark before them."""
    command, label, value, own = row
    if not command and not value:
        return one_line(label)
    shown = one_line(value)
    if cell_len(shown) > _VALUE_CELLS:
        shown = set_cell_size(shown, _VALUE_CELLS - 1) + "…"
    return f"{'•' if own else ' '} {label.ljust(_LABEL_CELLS)}{shown}"
