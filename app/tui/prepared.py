"""What has been worked out before something is learned: amounts, rows, a plan; as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from openchat_local.app.learning.feedback import Lesson
    from openchat_local.app.learning.planning import Forecast
    from openchat_local.app.learning.selecting import Offer
    from openchat_local.app.learning.starting import LearningRequest
    from openchat_local.app.learning.weighing import WeighedLesson

Row = tuple["Lesson", "WeighedLesson | None"]


@dataclass(frozen=True, slots=True)
class Amount:
    """Rows of a class, their tokens, and how many of these are learned."""

    rows: int = 0
    tokens: int = 0
    learned: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.rows + other.rows, self.tokens + other.tokens, self.learned + other.learned
        )


class Counted(Message):
    """The chats that a request takes, in tokens a class, so far. Once it is `complete`, `lessons`
    are all of them, `short` is what is missing, or None, and `remarks` are what a person should
    know. `problem` says why none are counted."""

    def __init__(
        self,
        request: LearningRequest,
        amounts: Mapping[str, Amount],
        lessons: tuple[Lesson, ...] = (),
        *,
        complete: bool = False,
        short: str | None = None,
        remarks: Sequence[str] = (),
        problem: str = "",
    ) -> None:
        super().__init__()
        self.request = request
        self.amounts = amounts
        self.lessons = lessons
        self.complete = complete
        self.short = short
        self.remarks = remarks
        self.problem = problem


class Looked(Message):
    """The rows that a chat gives, or why they cannot be shown."""

    def __init__(self, chat_id: str, rows: Sequence[Row], problem: str = "") -> None:
        super().__init__()
        self.chat_id = chat_id
        self.rows = rows
        self.problem = problem


class Planned(Message):
    """How far the plan of a request is: what is being done for it, what it is, or why it is
    none."""

    def __init__(
        self,
        request: LearningRequest,
        phase: str = "",
        forecast: Forecast | None = None,
        problem: str = "",
    ) -> None:
        super().__init__()
        self.request = request
        self.phase = phase
        self.forecast = forecast
        self.problem = problem


class Broke(Message):
    """A thread met a bug, which the window is to raise."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def add_rows(amounts: dict[str, Amount], rows: Sequence[Row]) -> None:
    """Count these rows too."""
    for lesson, weighed in rows:
        one = Amount(1) if weighed is None else Amount(1, weighed.tokens, weighed.learned)
        amounts[lesson.class_name] = amounts.get(lesson.class_name, Amount()) + one


def rows_of(amounts: Mapping[str, Amount]) -> int:
    """All rows together."""
    return sum(amount.rows for amount in amounts.values())


def counts_of(offers: Sequence[Offer], excluded: frozenset[str]) -> dict[str, int]:
    """Replies a class in the chats that are taken."""
    counts: dict[str, int] = {}
    for offer in offers:
        if offer.chat_id not in excluded:
            for name, count in offer.counts.items():
                counts[name] = counts.get(name, 0) + count
    return counts
