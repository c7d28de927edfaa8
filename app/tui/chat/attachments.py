"""The files that the prompt mentions, with what each would cost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from openchat_local.app.replies.attachments import (
    AttachmentError,
    Mention,
    block,
    mentions,
    read,
    unreadable,
)
from openchat_local.app.tui.widgets.attached_files import AttachedFiles
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.models.engine.protocol import Engine

Stamp = tuple[str, int, int, bool]


class Attachments:
    """Reads and counts in a thread; what was counted once is not counted again."""

    def __init__(self, window: WindowContext) -> None:
        self.widget = AttachedFiles()
        self._window = window
        self._known: dict[Stamp, str] = {}
        self._shown: list[str] = []

    def look(self) -> None:
        """The prompt has changed."""
        if "@" in self._window.prompt.text or self._shown:
            self._window.begin(self._look, "attach")

    async def _look(self) -> None:
        text = self._window.prompt.text
        loader = self._window.loader
        engine = loader.engine if loader.loaded is not None else None
        lines = await asyncio.to_thread(self._lines, text, engine)
        if text == self._window.prompt.text:
            self._shown = lines
            self.widget.show(lines)

    def _lines(self, text: str, engine: Engine | None) -> list[str]:
        return [line for mention in mentions(text) if (line := self._line(mention, engine))]

    def _line(self, mention: Mention, engine: Engine | None) -> str:
        if not mention.exists:
            missing = f"@{mention.name} is not there, so it stays a word of the prompt."
            return missing if mention.looks_like_a_file else ""
        try:
            status = mention.path.stat()
            stamp = (mention.name, status.st_mtime_ns, status.st_size, engine is None)
            if stamp not in self._known:
                self._known[stamp] = _described(mention, engine)
            return self._known[stamp]
        except AttachmentError as problem:
            return str(problem)
        except OSError as error:
            return str(unreadable(mention, error))


def _described(mention: Mention, engine: Engine | None) -> str:
    """The file's name with its size in tokens, in characters without a model to count them.

    Raises AttachmentError.
    """
    content = read(mention)
    size = f"{len(content):,} characters"
    if engine is not None:
        alone, both = mention.name, f"{mention.name}\n\n{block(mention, content)}"
        with suppress(OpenChatError):  # the engine is starting again; characters have to do
            size = f"{_tokens(engine, both) - _tokens(engine, alone):,} tokens"
    return f"@{mention.name}  {size}"


def _tokens(engine: Engine, text: str) -> int:
    return engine.count_tokens(Conversation((Message("user", text),)))
