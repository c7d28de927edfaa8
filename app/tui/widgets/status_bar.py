"""One line about the engine: what it is, what it does, how fast, how full."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

BAR_CELLS = 12


@dataclass(frozen=True, slots=True)
class Status:
    """What the bar shows. `progress` from 0 to 1 draws a bar behind `activity`.

    `tokens` are those of the shown chat with the unsent prompt; None while unknown. `learning`
    is a word of a run that learns; what it has after a comma is left out where room is short.
    `mark` says that words go elsewhere: it is never left out.
    """

    mark: str = ""
    model: str = ""
    activity: str = ""
    progress: float | None = None
    tokens_per_second: float | None = None
    tokens: int | None = None
    context: int | None = None
    learning: str = ""

    def line(self, width: int) -> str:
        """The status in `width` cells: what is left on the left gives way first, but for the
        end of the word of a run."""
        mark = f"[{self.mark}]" if self.mark else ""
        left = "  ".join(part for part in (mark, self.model, self._work()) if part)
        for learning in (self.learning, self.learning.partition(",")[0]):
            right = "  ".join(part for part in (learning, self._speed(), self._meter()) if part)
            room = max(0, width - cell_len(right) - 2)
            if cell_len(left) <= room:
                break
        if cell_len(left) > room:
            left = set_cell_size(left, max(0, room - 1)) + "…" if room else ""
        return left + " " * (width - cell_len(left) - cell_len(right)) + right

    def _work(self) -> str:
        if self.progress is None:
            return self.activity
        full = round(self.progress * BAR_CELLS)
        bar = "━" * full + "┄" * (BAR_CELLS - full)
        return f"{self.activity} {bar} {self.progress:4.0%}"

    def _speed(self) -> str:
        speed = self.tokens_per_second
        return "" if speed is None else f"{speed:.{0 if speed >= 100 else 1}f} tokens/s"

    def _meter(self) -> str:
        if not self.context:
            return ""
        return f"{'–' if self.tokens is None else f'{self.tokens:,}'} / {self.context:,}"


class StatusBar(Widget):
    """Shows a `Status`; repaints only when the line changes."""

    DEFAULT_CSS = """
    StatusBar { height: 1; padding: 0 1; background: $surface; color: $foreground 80%; }
    """
    status: reactive[Status] = reactive(Status())

    def render(self) -> Content:
        line, mark = self.status.line(self.content_size.width), f"[{self.status.mark}]"
        if not self.status.mark or not line.startswith(mark):
            return Content(line)
        return Content.styled(mark, "bold $text-warning") + Content(line.removeprefix(mark))
