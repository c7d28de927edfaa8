"""The bar of every command that takes long: on standard error, at a terminal alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from openchat_local.app.printable import one_line
from openchat_local.models.units import time_in_words

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress


def error_console() -> Console:
    """Standard error, its control sequences only where it is a terminal."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, force_terminal=sys.stderr.isatty())


def output_console(*, soft_wrap: bool = False) -> Console:
    """Standard output. A reader that has had enough is a BrokenPipeError, as in `print`."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 - Rich calls it while it handles one, and would exit with 1

    return Output(highlight=False, markup=False, soft_wrap=soft_wrap)


class Bar:
    """What is being done, a bar, its share, and how it stands; it is gone when all is done.

    Where nobody looks, it shows nothing. `below` gives lines to show under the bar.
    """

    def __init__(
        self,
        label: str,
        total: float | None = None,
        *,
        console: Console | None = None,
        below: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`total` None: how much there is to do is not known."""
        self._progress = _progress(console or error_console(), below)
        self._task = self._progress.add_task(label, total=total, about=None)

    @property
    def label(self) -> str:
        """What is being done now."""
        return self._progress.tasks[0].description

    def begin(self, label: str, total: float | None = None) -> None:
        """Something else is being done from here on."""
        # Of a task that had a total, Rich keeps it: another task has none.
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(label, total=total, about=None)

    def show(self, done: float, about: str | None = None, *, label: str | None = None) -> None:
        """`done` of the total is done. `about` says how it stands; without it that is the time
        left, or that which has passed where none can be told."""
        self._progress.update(self._task, completed=done, about=about, description=label)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()


def _progress(console: Console, below: Callable[[], Sequence[str]]) -> Progress:
    from rich.progress import BarColumn, Progress, ProgressColumn, Task
    from rich.table import Column
    from rich.text import Text

    class Label(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(one_line(task.description))

    class Share(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.total is None else f"{task.percentage:3.0f}%")

    class About(ProgressColumn):
        def render(self, task: Task) -> Text:
            if task.fields["about"] is not None:
                return Text(one_line(task.fields["about"]))
            if task.time_remaining is not None and not task.finished:
                return Text(f"about {time_in_words(task.time_remaining)} left")
            return Text(time_in_words(task.elapsed or 0.0))

    class WithLines(Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            for line in below():
                yield Text(one_line(line), no_wrap=True, overflow="ellipsis")

    cut = [Column(no_wrap=True, overflow="ellipsis") for _ in range(2)]
    # What is written to standard output meanwhile is the command's result: it goes where it should.
    return WithLines(
        Label(cut[0]), BarColumn(16), Share(), About(cut[1]), console=console, transient=True,
        redirect_stdout=False, disable=not console.is_terminal,
    )  # fmt: skip
