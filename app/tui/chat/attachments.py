"""The files that the prompt mentions: shown with what each would cost, looked at, sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from openchat_local.app.documents.extraction import Cancelled
from openchat_local.app.printable import one_line
from openchat_local.app.replies.attachments import attachments
from openchat_local.app.replies.fitting import counting, described, room_for
from openchat_local.app.replies.gathering import Gathered, gather, missing, room_in
from openchat_local.app.replies.mentions import Mention, mentions, without_mentions
from openchat_local.app.replies.reading import Attached, AttachmentError, Shelf, Wish
from openchat_local.app.tui.questions.going_along import GoingAlong
from openchat_local.app.tui.widgets.attached_files import AttachedFiles
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage
    from openchat_local.app.tui.chat.context import WindowContext

Key = TypeVar("Key")
Value = TypeVar("Value")

REMEMBERED = 16


class Attachments:
    """Reads in one thread and counts in others; what was read or counted once is held."""

    def __init__(self, window: WindowContext) -> None:
        self.widget = AttachedFiles()
        self._window = window
        self._shelf = Shelf()
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="attachments")
        self._mentioned: frozenset[str] = frozenset()
        self._is_reading = False
        self._lines_of: dict[tuple[Attached, bool, bool], str] = {}
        self._shown: list[str] = []
        self._seen: dict[Attached, None] = {}
        self._approved: dict[str, Gathered] = {}

    # While the prompt is written

    def look(self) -> None:
        """The prompt has changed."""
        if "@" in self._window.prompt.text or self._shown:
            self._window.begin(self._look, "attach")

    async def _look(self) -> None:
        text, editing = self._window.prompt.text, self._window.prompt.editing
        gathered = await asyncio.to_thread(self.known, text, editing)
        lines = await asyncio.to_thread(self._lines, gathered)
        if text != self._window.prompt.text:
            return
        self._mentioned = frozenset(each.name for each in mentions(text))
        self._shown = lines
        self.widget.show(lines)
        for attached in gathered.attached:
            _remember(self._seen, attached, None)
        if gathered.pending and not self._is_reading:
            self._is_reading = True
            self._window.begin(partial(self._read, gathered.pending, text))

    async def _read(self, pending: Sequence[Mention], text: str) -> None:
        """Read what was not read yet, as long as the prompt mentions it."""
        loop = asyncio.get_running_loop()
        try:
            for mention in pending:

                def wanted(name: str = mention.name) -> bool:
                    return name in self._mentioned

                wish = Wish(without_mentions(text), self._room, wanted=wanted)
                with suppress(AttachmentError, Cancelled):  # the next look will meet it
                    await loop.run_in_executor(self._reader, self._shelf.attached, mention, wish)
        finally:
            self._is_reading = False
        self.look()
        self._window.meter.recount_soon()

    def known(self, text: str, instead_of: StoredMessage | None) -> Gathered:
        """What goes along as far as it was read. For any thread."""
        return self._gather(text, instead_of, read=False)

    def expanded(self, text: str, instead_of: StoredMessage | None) -> str:
        """A prompt as the model would get it, as far as what goes along was read."""
        return self.known(text, instead_of).text

    def _gather(self, text: str, instead_of: StoredMessage | None, *, read: bool) -> Gathered:
        stored = () if instead_of is None else attachments(instead_of.content)[1]
        return gather(text, self._shelf, room=self._room, stored=stored, read=read)

    @property
    def _room(self) -> int:
        loaded = self._window.loader.loaded
        return room_in(None if loaded is None else loaded.context)

    def put_away(self) -> None:
        """The window closes: nothing is wanted any more."""
        self._mentioned = frozenset()
        self._reader.shutdown(wait=False, cancel_futures=True)

    # In words

    def _lines(self, gathered: Gathered) -> list[str]:
        lines = [*map(str, gathered.problems), *missing(gathered.prompt)]
        lines += [self._line(each) for each in gathered.attached]
        return lines + [f"@{each.name}  is being read" for each in gathered.pending]

    def _line(self, attached: Attached, *, listed: bool = False) -> str:
        loader = self._window.loader
        engine, loaded = loader.engine, loader.loaded
        known = attached, loaded is not None, listed
        if known not in self._lines_of:
            line = described(attached, listed=listed)
            if engine is not None and loaded is not None:
                room = room_for(loaded.context)
                with suppress(OpenChatError):  # it is starting again; characters have to do
                    line = described(attached, counting(engine), room, listed=listed)
            _remember(self._lines_of, known, line)
        return self._lines_of[known]

    # Looking, and sending

    async def look_at(self) -> None:
        """Show all of what goes along with the prompt in the box."""
        prompt = self._window.prompt
        if not any(each.exists for each in mentions(prompt.text)):
            self._window.tell("Nothing goes along: @path attaches a file, @folder/ what suits.")
            return
        await self._window.ask(self._screen(prompt.text, prompt.editing, sends=False))

    async def may_go(self, text: str, instead_of: StoredMessage | None) -> bool:
        """Whether a prompt is to be sent with what it mentions. What a search has found, and what
        was not shown above the prompt yet, is shown first; meanwhile, and where it is not sent,
        the prompt stands in its box."""
        gathered = await asyncio.to_thread(self.known, text, instead_of)
        if gathered.pending or gathered.searched or not self._was_shown(gathered):
            since = self._window.prompt.text
            self._window.give_back(text, instead_of)
            agreed = await self._window.ask(self._screen(text, instead_of, sends=True))
            if agreed is None:
                return False
            gathered = agreed
            if gathered.held_back_by is None:
                self._take_out(since, instead_of)
        elif gathered.held_back_by is not None:
            self._window.give_back(text, instead_of)
        if gathered.held_back_by is not None:
            name = one_line(gathered.held_back_by.name)  # why, stands above the prompt
            self._window.tell(f"Not sent, since @{name} cannot go along.", error=True)
            return False
        _remember(self._approved, text, gathered)
        return True

    async def approved(self, text: str, instead_of: StoredMessage | None) -> Gathered:
        """What goes along with a prompt: what was shown before it was sent."""
        if text in self._approved:
            return self._approved[text]
        return await asyncio.to_thread(self.known, text, instead_of)

    def _was_shown(self, gathered: Gathered) -> bool:
        return all(each in self._seen for each in gathered.attached if each.mention.is_document)

    def _take_out(self, since: str, instead_of: StoredMessage | None) -> None:
        """The prompt leaves its box; what was written since it was entered stays."""
        if instead_of is None:
            self._window.prompt.put(since)
        else:
            self._window.pane.end_edit()

    def _screen(self, text: str, instead_of: StoredMessage | None, *, sends: bool) -> GoingAlong:
        stored = () if instead_of is None else attachments(instead_of.content)[1]
        read = partial(gather, text, self._shelf, room=self._room, stored=stored)
        return GoingAlong(read, partial(self._line, listed=True), sends=sends)


def _remember(held: dict[Key, Value], key: Key, value: Value) -> None:
    held[key] = value
    while len(held) > REMEMBERED:
        del held[next(iter(held))]
