"""A run on the screen: how far it is, what it means, its curves; and the runs before it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from openchat_local.app.printable import printable
from openchat_local.app.tui.widgets.notice import ERROR, Notice
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from pathlib import Path

    from openchat_local.app.tui.chat.training import Training
    from openchat_local.app.tui.training_lines import Shown
    from openchat_local.finetune.run.known import KnownRun

NOTHING = (
    "Nothing has been learned yet. Rate replies with + and -, or correct them with e; then /learn "
    "has the model learn from that."
)


class TrainingScreen(ModalScreen[None]):
    """Shows what `training` follows, or an earlier run that is chosen from the list."""

    DEFAULT_CSS = """
    TrainingScreen { align: center middle; }
    TrainingScreen > Vertical {
        max-width: 160;
        height: 100%;
        padding: 0 1;
        border: round $primary;
        background: $surface;
    }
    TrainingScreen #run { height: 1fr; scrollbar-size-vertical: 1; }
    TrainingScreen Static { height: auto; padding: 0 1; }
    TrainingScreen #meaning { margin: 1 0; text-style: bold; }
    TrainingScreen #meaning.-error { color: $text-error; }
    TrainingScreen #figures { color: $foreground 60%; }
    TrainingScreen #notices { margin: 1 0 0 0; color: $foreground 80%; }
    TrainingScreen #earlier { height: 1; margin: 1 0 0 0; color: $foreground 60%; }
    TrainingScreen OptionList {
        height: auto;
        max-height: 4;
        border: none;
        padding: 0;
        background: $surface;
        scrollbar-size-vertical: 1;
        & > .option-list--option-highlighted { background: $foreground 12%; text-style: none; }
        &:focus { border: none; }
    }
    TrainingScreen.-tall OptionList { max-height: 12; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close", id="training.close"),
        Binding("p", "pause", "Pause, or go on", id="training.pause"),
        Binding("s", "stop", "Stop, and keep what was learned", id="training.stop"),
        Binding("r", "resume", "Go on with a run that was stopped", id="training.resume"),
        Binding("pageup", "page(-1)", "Scroll up", priority=True, id="training.page-up"),
        Binding("pagedown", "page(1)", "Scroll down", priority=True, id="training.page-down"),
    ]

    def __init__(self, training: Training, home: Path) -> None:
        super().__init__()
        self._training = training
        self._home = home
        self._followed = training.followed
        self._runs: list[KnownRun] = []
        self._chosen: Path | None = None
        """What the user has chosen from the list; None for the run that is followed."""
        self._listed: tuple[str, bool] | None = None
        """Of the run that is followed, as the list has it: its id, and whether it is at work."""
        self._newest: Path | None = None
        """That of the run which is shown while there is none to follow."""
        self._can: frozenset[str] = frozenset()

    def compose(self) -> ComposeResult:
        from openchat_local.app.tui.widgets.loss_plot import LossPlot

        with Vertical():
            with VerticalScroll(id="run", can_focus=False):
                yield Static(id="headline", markup=False)
                yield Static(id="meaning", markup=False)
                yield LossPlot()
                yield Static(id="figures", markup=False)
                yield Static(id="notices", markup=False)
            yield Static("All that was learned", id="earlier", markup=False)
            yield OptionList(markup=False)
            yield Notice()

    def on_mount(self) -> None:
        self._training.on_change = self._changed
        self._changed()
        self._list()

    def on_unmount(self) -> None:
        self._training.on_change = None

    def on_resize(self) -> None:
        self.set_class(self.app.size.height >= 40, "-tall")
        self._fill_list()

    # What is shown

    def _changed(self) -> None:
        """There is something new of the run that is followed."""
        self._followed = now = self._training.followed or self._followed
        if self._chosen is None:
            self._show_followed()
        if now is not None and self._listed != (listed := (now.run.id, now.state.at_work)):
            self._listed = listed
            self._list()

    def _show_followed(self) -> None:
        from openchat_local.app.tui.training_lines import shown

        if (followed := self._followed) is None:
            return
        state, course = followed.state, followed.course
        self._show(shown(followed.run.name, state, course, stopping=followed.stopping))
        if not followed.state.at_work and self._training.followed is followed:
            self._see()

    @work(exclusive=True, group="see")
    async def _see(self) -> None:
        await self._training.seen()

    def _show(self, run: Shown) -> None:
        from openchat_local.app.tui.widgets.loss_plot import LossPlot

        self._can = run.can
        box = self.query_one(Vertical)
        box.border_title = Content(f"Learning: {run.name}")
        box.border_subtitle = self._keys()
        self._put("headline", run.headline)
        self._put("meaning", f"{ERROR if run.error else ''}{run.meaning}")
        self.query_one("#meaning").set_class(run.error, "-error")
        self._put("figures", run.figures)
        self._put("notices", "\n".join(f"• {notice}" for notice in reversed(run.notices)))
        plot = self.query_one(LossPlot)
        plot.show(run.course)
        plot.display = bool(run.course.trained or run.course.held_out or "stop" in run.can)

    def _put(self, name: str, text: str) -> None:
        """Show a text, if another stands there."""
        text = printable(text)
        place = self.query_one(f"#{name}", Static)
        if str(place.content) != text:
            place.update(Content(text))
        place.display = bool(text)

    def _keys(self) -> str:
        names = {"pause": "P pauses", "stop": "S stops and keeps it", "resume": "R goes on"}
        followed = self._followed
        if followed is not None and followed.state.phase == "paused":
            names["pause"] = "P goes on"
        return " · ".join([*(names[key] for key in names if key in self._can), "Esc closes"])

    # The list

    @work(exclusive=True, group="list")
    async def _list(self) -> None:
        from openchat_local.finetune.run.known import known_runs
        from openchat_local.finetune.run.supervisor import runs_folder

        self._runs = await asyncio.to_thread(known_runs, runs_folder(self._home))
        self._fill_list()
        if self._followed is None and self._chosen is None:
            await self._show_newest()

    async def _show_newest(self) -> None:
        """Show the newest run, until there is one to be followed."""
        if not self._runs:
            self._show_nothing()
            return
        newest = await asyncio.to_thread(_read, self._runs[0])
        if self._followed is None and self._chosen is None:
            self._show(newest)
            self._newest = self._runs[0].path

    def _fill_list(self) -> None:
        from openchat_local.app.tui.training_lines import known_line

        options = self.query_one(OptionList)
        highlighted = options.highlighted
        followed = None if self._followed is None else self._followed.run.path
        width = max(20, self.query_one(Vertical).size.width - 4)
        options.set_options(
            Option(known_line(self._as_followed(run), width, marked=run.path == followed))
            for run in self._runs
        )
        options.highlighted = highlighted
        for each in (options, self.query_one("#earlier")):
            each.display = len(self._runs) > (followed is not None)
        if options.display:
            options.focus()

    def _as_followed(self, run: KnownRun) -> KnownRun:
        """Its folder tells of a run that is prepared only that it has not ended."""
        now = self._followed
        at_work = now is not None and now.state.at_work and now.run.path == run.path
        return replace(run, state="training") if at_work else run

    @work(exclusive=True, group="known")
    async def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        run = self._runs[event.option_index]
        if self._followed is not None and self._followed.run.path == run.path:
            self._chosen = None  # and it is shown as it goes on
            self._show_followed()
            return
        self._chosen = run.path
        earlier = await asyncio.to_thread(_read, run)
        if self._chosen == run.path:
            self._show(earlier)

    def _show_nothing(self) -> None:
        box = self.query_one(Vertical)
        box.border_title, box.border_subtitle = "Learning", "Esc closes"
        self._put("meaning", NOTHING)
        for name in ("headline", "figures", "notices"):
            self._put(name, "")
        self.query_one("LossPlot").display = False

    # Keys

    def action_pause(self) -> None:
        if "pause" in self._can and self._followed is not None:
            paused = self._followed.state.phase == "paused"
            self._do("go_on" if paused else "pause")

    def action_stop(self) -> None:
        if "stop" in self._can:
            self._do("stop")

    def action_resume(self) -> None:
        if "resume" in self._can:
            self._do("resume")

    @work(exclusive=True, group="do")
    async def _do(self, what: str) -> None:
        """Have the run that is shown do something; a problem is told where it says what it
        means."""
        from openchat_local.finetune.run.background import resume_in_background

        run = None if self._followed is None else self._followed.run
        try:
            path = self._chosen or (self._newest if run is None else run.path)
            if what == "resume" and path is not None:
                await asyncio.to_thread(resume_in_background, path, home=self._home)
            elif run is not None and self._chosen is None:
                await asyncio.to_thread(getattr(run, what))
        except OpenChatError as problem:
            self.query_one(Notice).tell(str(problem), error=True)
            return
        self.query_one(Notice).dismiss()
        if what == "resume":
            self._chosen = None
        self._training.begun()

    def action_page(self, direction: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=direction * 8, animate=False)


def _read(run: KnownRun) -> Shown:
    """What the folder of a run tells; as much as can be read of one that is damaged."""
    from openchat_local.app.tui.training_lines import shown_known
    from openchat_local.finetune.run.course import Course, course_of
    from openchat_local.finetune.run.directory import RunDirectory, RunError

    folder = RunDirectory(run.path)
    try:
        return shown_known(run, folder.settings(), course_of(folder))
    except RunError:
        return shown_known(run, {}, Course())
