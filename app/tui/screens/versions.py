"""The versions of what answers: which adapters there are, what they are worth, which is in use."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rich.cells import cell_len, set_cell_size
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from openchat_local.app.learning.versions import Branch, ScoredWorse, Version
from openchat_local.app.printable import one_line, printable
from openchat_local.app.tui.judging import Judging
from openchat_local.app.tui.questions.confirm import Confirm
from openchat_local.app.tui.questions.line import AskLine
from openchat_local.app.wording import counted, local_time, times
from openchat_local.models.errors import OpenChatError
from openchat_local.models.library.adapters import NO_ADAPTER

if TYPE_CHECKING:
    from openchat_local.app.tui.chat.versions import Versions

LOOK_SECONDS = 0.2
WIDTH = 120
NONE_YET = (
    "No version is here yet. Talk to the model, rate its answers with + and -, and /learn makes "
    "one of them."
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is done elsewhere, with which version (None: the model as it is)."""

    act: Literal["compare", "train"]
    name: str | None = None


class VersionsScreen(ModalScreen["Wanted | None"]):
    """Gives what is to be done elsewhere, None for Esc. Judging goes on when it is closed."""

    DEFAULT_CSS = """
    VersionsScreen { align: center top; }
    VersionsScreen > Vertical {
        width: 120;
        max-width: 100%;
        height: 100%;
        padding: 0 1;
        border: round $primary;
        background: $surface;
    }
    VersionsScreen OptionList {
        height: auto;
        max-height: 50%;
        border: none;
        padding: 0;
        background: $surface;
        scrollbar-size-vertical: 1;
        & > .option-list--option-highlighted { background: $foreground 12%; text-style: none; }
        &:focus { border: none; }
    }
    VersionsScreen VerticalScroll {
        height: 1fr; margin: 1 0 0 0; scrollbar-size-vertical: 1; background: $surface;
    }
    VersionsScreen #about { height: auto; padding: 0 1; }
    VersionsScreen #keys { height: auto; padding: 0 1; color: $foreground 60%; }
    VersionsScreen #said { height: auto; padding: 0 1; color: $foreground 70%; }
    VersionsScreen #said.-error { color: $text-error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close", id="version.close"),
        Binding("u", "use", "Use it in new chats", id="version.use"),
        Binding("r", "take_back", "Bring back what answered before", id="version.roll-back"),
        Binding("j", "judge", "Measure what it is worth, or stop that", id="version.judge"),
        Binding("c", "go('compare')", "Compare it blind", id="version.compare"),
        Binding("t", "go('train')", "Train on from it", id="version.train"),
        Binding("s", "scale", "More or less of it", id="version.scale"),
        Binding("d,delete", "delete", "Delete it with its data", id="version.delete"),
        Binding("a", "arena", "All votes", id="version.arena"),
    ]

    def __init__(self, versions: Versions) -> None:
        super().__init__()
        self._versions = versions
        self._rows: list[Branch] = []
        self._judged: Judging | None = versions.judging

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Versions"
            box.border_subtitle = CLOSES
            yield OptionList(markup=False)
            with VerticalScroll(can_focus=False):
                yield Static(id="about", markup=False)
            yield Static(id="said", markup=False)
            yield Static(Content(KEYS), id="keys", markup=False)

    def on_mount(self) -> None:
        self._read()
        self.set_interval(LOOK_SECONDS, self._look)

    @work(exclusive=True, group="read")
    async def _read(self) -> None:
        """Show what there is; the highlighted version stays so wherever it stands now."""
        name = self._chosen
        try:
            self._rows = await self._versions.look()
        except OpenChatError as problem:
            self._tell(str(problem), error=True)
            return
        options = self.query_one(OptionList)
        first = options.highlighted is None
        options.set_options(Option(line) for line in self._lines())
        if not self._rows:
            self.query_one("#about", Static).update(Content(NONE_YET))
            return
        options.highlighted = _place(self._rows, name, first=first)
        self._show_about()

    def on_resize(self) -> None:
        options = self.query_one(OptionList)
        highlighted = options.highlighted
        options.set_options(Option(line) for line in self._lines())
        options.highlighted = highlighted

    def _lines(self) -> list[Content]:
        width = min(self.app.size.width, WIDTH) - 6
        return [line(row, width) for row in self._rows]

    def on_option_list_option_highlighted(self) -> None:
        self._show_about()

    def _show_about(self) -> None:
        row = self._row
        if row is None:
            return
        text = ABOUT_BASE if row.version is None else "\n".join(about(row.version))
        self.query_one("#about", Static).update(Content(printable(text)))

    @property
    def _row(self) -> Branch | None:
        place = self.query_one(OptionList).highlighted
        return None if place is None or place >= len(self._rows) else self._rows[place]

    @property
    def _chosen(self) -> str | None:
        """The version under the cursor; None where that is the model."""
        row = self._row
        return None if row is None or row.version is None else row.version.name

    # What is done

    def on_option_list_option_selected(self) -> None:
        self.action_use()

    def action_use(self) -> None:
        if self._row is not None:
            self._do(lambda: self._use(self._chosen or NO_ADAPTER))

    async def _use(self, name: str) -> str:
        try:
            return await self._versions.use(name)
        except ScoredWorse as problem:
            if await self.app.push_screen_wait(Confirm(f"{one_line(str(problem))}\n\nUse it?")):
                return await self._versions.use(name, even_if_worse=True)
            return "Nothing was changed."

    def action_take_back(self) -> None:
        self._do(self._versions.take_back)

    def action_judge(self) -> None:
        judging = self._versions.judging
        if judging is not None and judging.running:
            self._versions.stop_judging()
        elif (name := self._chosen) is not None:
            try:
                self._versions.judge(name)
            except OpenChatError as problem:
                self._tell(str(problem), error=True)

    def action_scale(self) -> None:
        if (name := self._chosen) is not None:
            self._do(lambda: self._scale(name))

    async def _scale(self, name: str) -> str:
        version = next(
            row.version for row in self._rows if row.version and row.version.name == name
        )
        hint = "1 is as it was trained, 0.5 half of it: nearer to the model as it is."
        asked = AskLine(f"How much of {name}", f"{version.scale:g}", hint)
        text = await self.app.push_screen_wait(asked)
        return await self._versions.rescale(name, text) if text else "Nothing was changed."

    def action_delete(self) -> None:
        if (name := self._chosen) is not None:
            self._do(lambda: self._delete(name))

    async def _delete(self, name: str) -> str:
        what = await self._versions.deletion(name)
        if not await self.app.push_screen_wait(Confirm(printable(what.question))):
            return "Nothing was deleted."
        return await self._versions.delete(what)

    def action_arena(self) -> None:
        from openchat_local.app.tui.screens.arena import ArenaScreen

        self.app.push_screen(ArenaScreen(self._versions))

    def action_go(self, act: Literal["compare", "train"]) -> None:
        self.dismiss(Wanted(act, self._chosen))

    # One at a time: a second press while the first is at work does nothing.
    def _do(self, what: Callable[[], Coroutine[Any, Any, str]]) -> None:
        if not any(worker.group == "do" and worker.is_running for worker in self.workers):
            self._done(what)

    @work(group="do")
    async def _done(self, what: Callable[[], Coroutine[Any, Any, str]]) -> None:
        try:
            said = await what()
        except OpenChatError as problem:
            self._tell(str(problem), error=True)
        else:
            self._tell(said)
        self._read()

    def _look(self) -> None:
        """Show how far the judging is; what it found changes what there is."""
        judging = self._versions.judging
        if judging is None:
            return
        # Not where sentences stand: what was just done would be gone before it is read.
        box = self.query_one(Vertical)
        box.border_subtitle = progress_line(judging) if judging.running else CLOSES
        if judging.running:
            return
        if judging is not self._judged:
            self._judged = judging
            problem = judging.problem
            said = f"{judging.name} was judged." if problem is None else str(problem)
            self._tell(said, error=problem is not None)
            self._read()

    def _tell(self, text: str, *, error: bool = False) -> None:
        said = self.query_one("#said", Static)
        said.update(Content(printable(text)))
        said.set_class(error, "-error")


CLOSES = "Esc closes"
KEYS = (
    "Enter uses it · R brings back what was before · J judges it · C compares it blind · T trains "
    "on · S scales it · D deletes it · A all votes"
)
ABOUT_BASE = (
    "The model as it is, without an adapter. What stands below it was trained from it.\n"
    "Enter has new chats answer with it."
)


def _place(rows: list[Branch], name: str | None, *, first: bool) -> int:
    """Where a version stands; at first that in use."""
    for number, row in enumerate(rows):
        if row.version is not None and (row.version.in_use if first else row.version.name == name):
            return number
    return 0


def line(row: Branch, width: int) -> Content:
    """A version in one line: what it is called, how it scored, its votes, when it was made."""
    version = row.version
    label = f"{row.stem}{one_line(row.label)}"
    if version is None:
        return Content.styled(_cut(label, width), "dim")
    right = f"  {_cut(_score(version), 16)}{_votes(version):>14}  {_day(version):>10}"
    mark = "● in use" if version.in_use else ""
    room = max(8, width - cell_len(right) - 9)
    style = "bold" if version.in_use else "dim" if version.problem else ""
    return Content.styled(f"{_cut(label, room)} {mark:<8}{right}", style)


def _cut(text: str, width: int) -> str:
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)


def _score(version: Version) -> str:
    if version.problem is not None:
        return "damaged"
    return "not judged" if version.findings is None else version.findings.in_brief


def _votes(version: Version) -> str:
    votes = version.votes
    return f"{votes.wins} of {counted(votes.count, 'vote')}" if votes.count else ""


def _day(version: Version) -> str:
    return "" if version.trained_at is None else local_time(version.trained_at)[:10]


def about(version: Version) -> Iterator[str]:
    """What there is to know of a version, a paragraph each."""
    if version.problem is not None:
        yield version.problem
        return
    yield _origin(version)
    if version.findings is None:
        yield "Not judged yet: J measures what it is worth, in a minute or two."
    else:
        yield from version.findings.sentences
    votes = version.votes
    if votes.count:
        alike = f", and neither {times(votes.ties)}" if votes.ties else ""
        yield (
            f"In {counted(votes.count, 'blind comparison')} it was chosen {times(votes.wins)}, the "
            f"other {times(votes.losses)}{alike}."
        )
    else:
        yield "Not compared blind yet: C does that with your next prompts."
    if version.scale != 1:
        yield f"Its effect is multiplied by {version.scale:g} (S)."
    if version.report is not None:
        yield f"What happened in its training: {version.report}"


def _origin(version: Version) -> str:
    when = "" if version.trained_at is None else f" on {local_time(version.trained_at)[:10]}"
    parent = version.origin or "the model as it is"
    if version.origin is not None and version.parent is None:
        parent = f"an adapter {version.origin} that is not here any more"
    on = version.trained_on
    what = ""
    if on.counts:
        counts = ", ".join(f"{count:,} {name}" for name, count in on.counts.items())
        what = f", on {counted(sum(on.counts.values()), 'conversation')} ({counts})"
    if on.chats is not None:
        what += f" of {counted(on.chats, 'chat')}"
    if on.since is not None and on.until is not None:
        first, last = local_time(on.since)[:10], local_time(on.until)[:10]
        what += f" of {first}" if first == last else f" from {first} to {last}"
    used = " New chats answer with it." if version.in_use else ""
    return f"Trained{when} from {parent}{what}.{used}"


def progress_line(judging: Judging) -> str:
    """How far it is, on a line."""
    if judging.stopping:
        return f"Stopping to judge {judging.name}…"
    stage = judging.stage
    how_far = "" if stage is None else f": {stage.what}, {stage.fraction:.0%}"
    return f"Judging {judging.name}{how_far} · J stops it"
