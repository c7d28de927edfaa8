"""The arena: every blind comparison, and who stands how high."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len, set_cell_size
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from openchat_local.app.printable import one_line, printable
from openchat_local.app.wording import counted, local_time
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats.votes import Vote
    from openchat_local.app.learning.arena import Arena
    from openchat_local.app.tui.chat.versions import Ballots, Versions
    from openchat_local.finetune.evaluation.standings import Standing

WIDTH = 120
SCALE = 21  # cells of the line from 0 to 100 %
NAME = 30
MEANING = (
    "The share is of answers that would be preferred to those of an average one here, and lies "
    "with 95 % certainty where the brackets say."
)


class ArenaScreen(ModalScreen[None]):
    """Standings above, votes below, the newest first."""

    DEFAULT_CSS = """
    ArenaScreen { align: center top; }
    ArenaScreen > Vertical {
        width: 120;
        max-width: 100%;
        height: 100%;
        padding: 0 1;
        border: round $primary;
        background: $surface;
    }
    ArenaScreen VerticalScroll {
        height: auto; max-height: 60%; scrollbar-size-vertical: 1; background: $surface;
    }
    ArenaScreen Static { height: auto; padding: 0 1; }
    ArenaScreen #meaning { color: $foreground 70%; margin: 1 0; }
    ArenaScreen OptionList {
        height: 1fr;
        border: none;
        padding: 0;
        background: $surface;
        scrollbar-size-vertical: 1;
        & > .option-list--option-highlighted { background: $foreground 12%; text-style: none; }
        &:focus { border: none; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close", id="version.close-arena"),
    ]

    def __init__(self, versions: Versions) -> None:
        super().__init__()
        self._versions = versions
        self._ballots: Ballots | None = None

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Arena: what you preferred, blind"
            box.border_subtitle = "Up and Down go through the votes · Esc closes"
            with VerticalScroll(can_focus=False):
                yield Static(id="standings", markup=False)
                yield Static(id="meaning", markup=False)
            yield OptionList(markup=False)

    def on_mount(self) -> None:
        self._read()

    @work(exclusive=True)
    async def _read(self) -> None:
        try:
            self._ballots = await self._versions.ballots()
        except OpenChatError as problem:
            self.query_one("#meaning", Static).update(Content(printable(str(problem))))
            return
        self._show()

    def on_resize(self) -> None:
        self._show()

    def _show(self) -> None:
        if self._ballots is None:
            return
        width = min(self.app.size.width, WIDTH) - 6
        arena, prompts = self._ballots.arena, self._ballots.prompts
        rows = [standing_line(one, arena, width) for one in arena.standings]
        self.query_one("#standings", Static).update(Content("\n").join(rows))
        words = [*arena.sentences, *([MEANING] if rows else [])]
        if arena.empty:
            words.append(f"Said nothing of one beside the other: {counted(arena.empty, 'vote')}.")
        self.query_one("#meaning", Static).update(Content(printable(" ".join(words))))
        options = self.query_one(OptionList)
        before = options.highlighted
        options.set_options(
            Option(vote_line(vote, arena, prompts.get(vote.prompt_id, ""), width))
            for vote in arena.votes
        )
        options.highlighted = before if before is not None else 0 if arena.votes else None


def standing_line(one: Standing[tuple[object, ...]], arena: Arena, width: int) -> Content:
    """A side in one line: won, lost and tied, and its share with the interval."""
    low, high = one.share_interval
    figures = f"{one.wins:>4} won {one.losses:>4} lost {one.ties:>4} tied"
    share = f"{one.share:>5.0%} ({low:.0%} to {high:.0%})"
    text = f"  {figures}  {share:<20}"
    line = f"  {_span(one.share, low, high)}" if width >= NAME + cell_len(text) + SCALE + 2 else ""
    room = max(8, min(NAME, width - cell_len(text)))
    return Content(f"{_cut(one_line(arena.names[one.label]), room)}{text}{line}")


def _span(share: float, low: float, high: float) -> str:
    """Where it lies between 0 and 100 %: "····├──●───┤·········"."""
    first, place, last = (round(value * (SCALE - 1)) for value in (low, share, high))
    cells = ["·"] * SCALE
    for cell in range(first, last + 1):
        cells[cell] = "─"
    cells[first], cells[last] = "├", "┤"
    cells[place] = "●"
    return "".join(cells)


def vote_line(vote: Vote, arena: Arena, prompt: str, width: int) -> Content:
    """A vote in one line: when, who, and on what; the chosen side is bold."""
    day = local_time(vote.at)[:10]
    parts = list(_parts(vote, arena))
    taken = len(day) + 4 + sum(cell_len(text) for text, _ in parts)
    room = width - taken
    if room >= 8 and prompt:
        parts.append((f"  {_cut(one_line(prompt), room)}", "dim"))
    return Content.assemble((day, "dim"), "  ", *parts)


def _parts(vote: Vote, arena: Arena) -> Iterator[tuple[str, str]]:
    names = [_short(one_line(arena.name_of(side))) for side in (vote.first, vote.second)]
    styles = {"first": ("bold", "dim"), "second": ("dim", "bold")}.get(vote.choice or "", ("", ""))
    between = {"first": " better than ", "second": " worse than ", "tie": " as good as "}
    yield names[0], styles[0]
    yield between.get(vote.choice or "", " and "), "dim"
    yield names[1], styles[1]
    if vote.choice in ("bad", "skip"):
        yield (": both bad" if vote.choice == "bad" else ": skipped"), "dim"


def _short(name: str) -> str:
    return name if cell_len(name) <= NAME - 8 else set_cell_size(name, NAME - 9) + "…"


def _cut(text: str, width: int) -> str:
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)
