"""What is worked out beside the window before something is learned: rows, tokens, a plan.

In threads, which touch no widget and post what they found.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.message import Message

from openchat_local.app.tui.prepared import (
    Amount,
    Broke,
    Counted,
    Looked,
    Planned,
    Row,
    add_rows,
)
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from pathlib import Path

    from textual.message_pump import MessagePump

    from openchat_local.app.chats import ChatStore
    from openchat_local.app.learning.feedback import Lesson
    from openchat_local.app.learning.planning import Planning
    from openchat_local.app.learning.selecting import Offer
    from openchat_local.app.learning.starting import LearningRequest
    from openchat_local.app.learning.weighing import WeighedLesson, Weigher

ToCount = tuple["LearningRequest", "tuple[Offer, ...]"]

CHATS_AT_A_TIME = 32
"""Read and counted before who wants to look at one chat gets their turn."""
TOLD_SECONDS = 0.5
"""Between two words on how far counting is."""
SETTLED_SECONDS = 0.8
"""Without a change before a plan is tried out: it loads the model."""


class Preparing:
    """Counts, shows rows and plans, each for what was asked for last; `window` gets the
    messages of `prepared`."""

    def __init__(
        self, store: ChatStore, home: Path, base: Path, template: str | None, window: MessagePump
    ) -> None:
        self._store = store
        self._home = home
        self._base = base
        self._template = template
        self._window = window
        self._news = threading.Condition()
        self._to_count: ToCount | None = None
        self._to_show: tuple[LearningRequest, str] | None = None
        self._to_plan: tuple[LearningRequest, tuple[Lesson, ...]] | None = None
        self._known: dict[str, tuple[object, list[Row]]] = {}
        """The rows of a chat, and what they were made of: see `_state`."""
        self._weigher: Weigher | None = None
        self._planning: Planning | None = None
        self._closed = False
        for work in (self._count_and_show, self._plan_when_settled):
            threading.Thread(target=self._run, args=(work,), name="learning", daemon=True).start()

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

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the window's thread raises it again
            self._post(Broke(error))

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

    def _count(self, wanted: ToCount) -> None:
        """Count until all are counted, or something else is wanted; what is known stays known."""
        request, offers = wanted
        excluded = request.selection.excluded
        taken = [offer for offer in offers if offer.chat_id not in excluded]
        amounts: dict[str, Amount] = {}
        told, problem = time.monotonic(), ""
        for first in range(0, len(taken), CHATS_AT_A_TIME):
            some = taken[first : first + CHATS_AT_A_TIME]
            try:
                problem = self._learn_of(request, some) or problem
            except OpenChatError as error:
                self._done(wanted)
                self._post(Counted(request, {}, problem=str(error)))
                return
            if self._interrupted(wanted):
                return
            for offer in some:
                add_rows(amounts, self._known[offer.chat_id][1])
            if time.monotonic() > told + TOLD_SECONDS:
                told = time.monotonic()
                self._post(Counted(request, dict(amounts), problem=problem))
        self._done(wanted)
        from openchat_local.app.learning.selecting import remarks, shortfall

        rows = (row for offer in taken for row in self._known[offer.chat_id][1])
        lessons = tuple(lesson for lesson, _ in rows)
        short, said = shortfall(lessons), remarks(lessons) if lessons else ()
        self._post(
            Counted(
                request, amounts, lessons, complete=True, short=short, remarks=said, problem=problem
            )
        )

    def _learn_of(self, request: LearningRequest, offers: Sequence[Offer]) -> str:
        """Know the rows of these chats; why their tokens are not known, or "".

        Raises OpenChatError where the chats cannot be read.
        """
        from openchat_local.app.learning.starting import lessons_of

        new = {
            offer.chat_id: _state(offer, request)
            for offer in offers
            if self._known.get(offer.chat_id, (None,))[0] != _state(offer, request)
        }
        found = {chat_id: lessons_of(self._store, chat_id, request) for chat_id in new}
        lessons = [lesson for chat in found.values() for lesson in chat]
        problem = ""
        weighed: Sequence[WeighedLesson | None] = [None] * len(lessons)
        try:
            weighed = self._weigh(lessons)
        except OpenChatError as error:
            problem = str(error)
        rows = iter(zip(lessons, weighed, strict=True))
        for chat_id, chat in found.items():
            self._known[chat_id] = new[chat_id], [next(rows) for _ in chat]
        return problem

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
