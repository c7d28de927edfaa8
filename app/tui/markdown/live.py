"""The reply that is being written: its thoughts and its answer, as they grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openchat_local.app.chats.thoughts import marks_of, thoughts_in_words
from openchat_local.app.printable import printable
from openchat_local.app.tui.markdown.document import Document
from openchat_local.app.tui.markdown.thoughts import asides, fold_line, thinking_in_words
from openchat_local.models.thoughts import Part, ThoughtReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from openchat_local.app.chats import StoredMessage
    from openchat_local.app.tui.markdown.blocks import Block


class LiveReply:
    """`message` is its row as it was begun. Its text is `add`ed, and shown by `take`: what came
    while the reader was far above waits."""

    def __init__(self, message: StoredMessage) -> None:
        self.message = message
        self._waiting = ""
        self._reader = ThoughtReader(marks_of(message))
        self._thought, self._answer = Document(), Document()
        self._unread = ""  # of the thoughts: folded, they need not be laid out
        self._asides: list[Block] = []
        self._thinks = False
        self._figures = (0, 0.0)
        self._words = ""  # of the line that stands for the thoughts
        self._read(self._reader.feed(printable(message.content)))

    @property
    def thinks(self) -> bool:
        """Whether there is a thought to be seen."""
        return self._thinks

    def add(self, text: str) -> None:
        """More of the reply."""
        self._waiting += printable(text)

    def note(self, tokens: int, seconds: float) -> None:
        """How much it has thought."""
        self._figures = (tokens, seconds)

    def take(self, *, unfolded: bool) -> tuple[int, list[Block]] | None:
        """The number of the first block that changed, and all from there on; None where nothing
        did."""
        waiting, self._waiting = self._waiting, ""
        thinks, words = self.thinks, self._words
        changed = self._read(self._reader.feed(waiting)) if waiting else None
        blocks = self.blocks(unfolded=unfolded)
        if (thinks, words) != (self.thinks, self._words) or (changed == -1 and unfolded):
            return 0, blocks
        if changed is None or changed < 0:
            return None
        first = len(blocks) - len(self._answer.blocks) + changed
        return first, blocks[first:]

    def blocks(self, *, unfolded: bool) -> list[Block]:
        """All that is shown of it."""
        if not self.thinks:
            return [*self._answer.blocks]
        if self._reader.place == "thought":
            self._words = thinking_in_words(*self._figures)
        else:
            tokens, seconds = self._figures
            figures = {"reasoning_tokens": tokens, "reasoning_seconds": seconds}
            self._words = thoughts_in_words(figures)
        return self._shown(self._words, unfolded=unfolded)

    def ended(self, message: StoredMessage, *, unfolded: bool) -> list[Block]:
        """All of it now that nothing more comes; `message` is its row."""
        self._read(self._reader.feed(self._waiting))
        self._waiting = ""
        self._read(self._reader.finish())
        if not self.thinks:
            return [*self._answer.blocks]
        closed = self._reader.place != "thought"
        return self._shown(thoughts_in_words(message.usage, closed=closed), unfolded=unfolded)

    def _shown(self, words: str, *, unfolded: bool) -> list[Block]:
        line = fold_line(words, unfolded=unfolded)
        return [line, *(self._read_thoughts() if unfolded else ()), *self._answer.blocks]

    def _read_thoughts(self) -> list[Block]:
        if self._unread:
            first = self._thought.append(self._unread)
            self._asides[first:] = asides(self._thought.blocks[first:], first=first)
            self._unread = ""
        return self._asides

    def _read(self, parts: Iterable[Part]) -> int | None:
        """The first block of the answer that changed; -1 where only thoughts have, None where
        nothing did."""
        changed: int | None = None
        for part in parts:
            if part.thought:
                self._unread += part.text
                self._thinks = True
                changed = -1 if changed is None else changed
            else:
                first = self._answer.append(part.text)
                changed = first if changed is None or changed < 0 else min(changed, first)
        return changed
