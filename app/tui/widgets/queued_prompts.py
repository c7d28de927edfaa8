"""Prompts that wait for the reply that is being written, above the prompt box."""

from __future__ import annotations

from collections.abc import Iterator

from textual.content import Content
from textual.widgets import Static

from openchat_local.app.printable import one_line

SHOWN_CHARACTERS = 300


class QueuedPrompts(Static):
    """What was sent too early, in its order, one line each; hidden while none waits. They
    belong to the chat that is open: on disk they are the beginning of its draft."""

    DEFAULT_CSS = """
    QueuedPrompts {
        display: none;
        height: auto;
        max-height: 3;
        padding: 0 2;
        color: $text-primary;
        text-wrap: nowrap;
        text-overflow: ellipsis;
        &.-shown { display: block; }
    }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._texts: list[str] = []

    @property
    def any(self) -> bool:
        """Whether a prompt waits."""
        return bool(self._texts)

    def add(self, text: str) -> None:
        """Have a prompt wait after those that do."""
        self._change([*self._texts, text])

    def take_first(self) -> str:
        """The prompt whose turn it is."""
        first, *rest = self._texts
        self._change(rest)
        return first

    def take_back(self) -> str:
        """The prompt that came last."""
        *rest, last = self._texts
        self._change(rest)
        return last

    def drain(self) -> str:
        """All of them as one text, for a prompt box."""
        text = self.before("")
        self._change([])
        return text

    def before(self, text: str) -> str:
        """What waits and then `text`, each on lines of its own."""
        return "\n".join(each for each in (*self._texts, text) if each)

    def _change(self, texts: list[str]) -> None:
        self._texts = texts
        self.set_class(bool(texts), "-shown")
        self.update(Content("\n".join(_lines(texts))))


def _lines(texts: list[str]) -> Iterator[str]:
    for number, text in enumerate(texts, 1):
        label = "Next" if number == 1 else "Then"
        hint = ", unless Up takes it back" if number == len(texts) else ""
        yield f"{label}{hint}: {one_line(text[:SHOWN_CHARACTERS])}"
