"""What is worked out beside the window before something is learned: rows, tokens, a plan.

In threads, which touch no widget and post what they found.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from pathlib import Path

    from textual.message_pump import MessagePump

    from openchat_local.app.chats import ChatStore
    from openchat_local.app.learning.feedback import Lesson
    from openchat_local.app.learning.planning import Forecast, Planning
    from openchat_local.app.learning.selecting import Offer
    from openchat_local.app.learning.starting import LearningRequest
    from openchat_local.app.learning.weighing import WeighedLesson, Weigher

CHATS_AT_A_TIME = 32
"""Read and counted before who wants to look at one chat gets their turn."""
SETTLED_SECONDS = 0.8
"""Without a change before a plan is tried out: it loads the model."""

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
    """The chats that are taken, in tokens a class, so far. Once it is `complete`, `lessons` are
    all of them, `short` is what is missing, or None, and `remarks` are what a person should know.
    `problem` says why none are counted."""

    def __init__(
        self,
        amounts: Mapping[str, Amount],
        lessons: tuple[Lesson, ...] = (),
        *,
        complete: bool = False,
        short: str | None = None,
        remarks: Sequence[str] = (),
        problem: str = "",
    ) -> None:
        super().__init__()
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


class Preparing:
    """Counts, shows rows and plans, each for what was asked for last; `window` gets the
    messages above."""

    def __init__(
        self, store: ChatStore, home: Path, base: Path, template: str | None, window: MessagePump
    ) -> None:
        self._store = store
        self._home = home
        self._base = base
        self._template = template
        self._window = window
        self._news = threading.Condition()
        self._to_count: tuple[LearningRequest, tuple[Offer, ...]] | None = None
        self._to_show: tuple[LearningRequest, str] | None = None
        self._to_plan: tuple[LearningRequest, tuple[Lesson, ...]] | None = None
        self._known: dict[str, tuple[object, list[Row]]] = {}
        """The rows of a chat, and what they were made of: see `_state`."""
        self._weigher: Weigher | None = None
        self._planning: Planning | None = None
        self._closed = False
        for work in (self._count_and_show, self._plan_when_settled):
            threading.Thread(target=work, name="learning", daemon=True).start()

    # What the window asks for

    def count(self, request: LearningRequest, offers: Sequence[Offer]) -> None:
        """Count what the offers that are taken are in tokens."""
        with self._news:
            self._to_count = request, tuple(offers)
            self._news.notify_all()

    def show(self, request: LearningRequest, chat_id: str) -> None:
        """Make rows of one chat, with their text."""
        with self._news:
            self._to_show = request, chat_id
            self._news.notify_all()

    def plan(self, request: LearningRequest, lessons: Sequence[Lesson]) -> None:
        """Try out how long it would take, as soon as nothing else has been asked for a moment."""
        with self._news:
            self._to_plan = request, tuple(lessons)
            self._end_planning()
            self._news.notify_all()

    def no_plan(self) -> None:
        """What was to be planned is no longer meant."""
        with self._news:
            self._to_plan = None
            self._end_planning()

    def close(self) -> None:
        """End all of it. Nothing is posted any more but what is on its way."""
        with self._news:
            self._closed = True
            self._end_planning()
            self._news.notify_all()
        if self._weigher is not None:
            self._weigher.close()

    def _end_planning(self) -> None:
        if self._planning is not None:
            self._planning.end()

    # The thread that reads chats and counts

    def _count_and_show(self) -> None:
        while True:
            with self._news:
                while not (self._closed or self._to_show or self._to_count):
                    self._news.wait()
                if self._closed:
                    return
                shown, self._to_show = self._to_show, None
                counted = None if shown else self._to_count
            if shown:
                self._show(*shown)
            elif counted:
                self._count(counted)

    def _show(self, request: LearningRequest, chat_id: str) -> None:
        from openchat_local.app.learning.starting import lessons_of

        try:
            lessons = lessons_of(self._store, chat_id, request)
        except OpenChatError as problem:
            self._post(Looked(chat_id, (), str(problem)))
            return
        try:
            rows: list[Row] = list(zip(lessons, self._weigh(lessons, runs=True), strict=True))
        except OpenChatError as problem:
            self._post(Looked(chat_id, [(lesson, None) for lesson in lessons], str(problem)))
        else:
            self._post(Looked(chat_id, rows))

    def _count(self, wanted: tuple[LearningRequest, tuple[Offer, ...]]) -> None:
        """Count until all are counted, or something else is wanted; what is known stays known."""
        request, offers = wanted
        excluded = request.selection.excluded
        taken = [offer for offer in offers if offer.counts and offer.chat_id not in excluded]
        problem = ""
        for first in range(0, len(taken), CHATS_AT_A_TIME):
            some = taken[first : first + CHATS_AT_A_TIME]
            try:
                problem = self._learn_of(request, some) or problem
            except OpenChatError as error:
                self._done(wanted)
                self._post(Counted({}, problem=str(error)))
                return
            if self._interrupted(wanted):
                return
            if first + CHATS_AT_A_TIME < len(taken):
                self._post(Counted(self._amounts(taken), problem=problem))
        self._done(wanted)
        from openchat_local.app.learning.selecting import remarks, shortfall

        rows = [row for offer in taken for row in self._known[offer.chat_id][1]]
        lessons = tuple(lesson for lesson, _ in rows)
        self._post(
            Counted(
                self._amounts(taken),
                lessons,
                complete=True,
                short=shortfall(lessons),
                remarks=remarks(lessons) if lessons else (),
                problem=problem,
            )
        )

    def _learn_of(self, request: LearningRequest, offers: Sequence[Offer]) -> str:
        """Know the rows of these chats; why their tokens are not known, or "".

        Raises OpenChatError where the chats cannot be read.
        """
        from openchat_local.app.learning.starting import lessons_of

        problem = ""
        for offer in offers:
            state = _state(offer, request)
            if self._known.get(offer.chat_id, (None,))[0] == state:
                continue
            lessons = lessons_of(self._store, offer.chat_id, request)
            weighed: Sequence[WeighedLesson | None] = [None] * len(lessons)
            try:
                weighed = self._weigh(lessons)
            except OpenChatError as error:
                problem = str(error)
            self._known[offer.chat_id] = state, list(zip(lessons, weighed, strict=True))
        return problem

    def _amounts(self, offers: Sequence[Offer]) -> dict[str, Amount]:
        amounts: dict[str, Amount] = {}
        for offer in offers:
            for lesson, weighed in self._known.get(offer.chat_id, (None, []))[1]:
                one = Amount(1)
                if weighed is not None:
                    one = Amount(1, weighed.tokens, weighed.learned)
                amounts[lesson.class_name] = amounts.get(lesson.class_name, Amount()) + one
        return amounts

    def _weigh(self, lessons: Sequence[Lesson], *, runs: bool = False) -> list[WeighedLesson]:
        if self._weigher is None:
            from openchat_local.app.learning.weighing import Weigher

            with self._news:
                if self._closed:
                    raise OpenChatError("The window is closed.")
                self._weigher = Weigher(self._base, self._template)
        return self._weigher.weigh(lessons, runs=runs)

    def _interrupted(self, wanted: object) -> bool:
        with self._news:
            return self._closed or self._to_show is not None or self._to_count is not wanted

    def _done(self, wanted: object) -> None:
        """This is counted, unless something else is to be by now."""
        with self._news:
            if self._to_count is wanted:
                self._to_count = None

    # The thread that plans

    def _plan_when_settled(self) -> None:
        while True:
            with self._news:
                while not (self._closed or self._to_plan):
                    self._news.wait()
                wanted = self._to_plan
                # Every change begins the moment anew.
                changed = self._changes(wanted)
                if self._closed:
                    return
                if changed or wanted is None:
                    continue
                from openchat_local.app.learning.planning import Planning

                self._to_plan = None
                planning = self._planning = Planning(*wanted, self._home)
            self._plan(planning, wanted[0])

    def _changes(self, wanted: object) -> bool:
        """Whether something else is to be planned within a moment; called with the lock."""
        return self._news.wait_for(
            lambda: self._closed or self._to_plan is not wanted, SETTLED_SECONDS
        )

    def _plan(self, planning: Planning, request: LearningRequest) -> None:
        try:
            forecast = planning.run(lambda phase: self._post(Planned(request, phase)))
        except OpenChatError as problem:
            with self._news:
                ended = self._to_plan is not None or planning.ended
            if not ended:
                self._post(Planned(request, problem=str(problem)))
        else:
            self._post(Planned(request, forecast=forecast))
        finally:
            with self._news:
                self._planning = None

    def _post(self, message: Message) -> None:
        if not self._closed:
            self._window.post_message(message)


def _state(offer: Offer, request: LearningRequest) -> object:
    """What the rows of a chat depend on: a rating does not make the chat newer."""
    own = request.selection
    return offer.updated_at, dict(offer.counts), request.rules, own.cut_replies, own.thinking


def rows_of(amounts: Mapping[str, Amount]) -> int:
    """All rows together."""
    return sum(amount.rows for amount in amounts.values())


def counts_of(offers: Sequence[Offer], excluded: frozenset[str]) -> Counter[str]:
    """Replies a class in the chats that are taken."""
    counts = Counter[str]()
    for offer in offers:
        if offer.chat_id not in excluded:
            counts.update(offer.counts)
    return counts
