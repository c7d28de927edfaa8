"""Where the user writes: Enter sends and Ctrl+J begins a new line, or the other way round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from openchat_local.app.replies.attachments import without_blocks
from openchat_local.app.tui.keys import KeyedApp, key_of
from openchat_local.app.tui.widgets.plain_area import PlainArea, with_plain_line_ends

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage

LONGEST_TEXT = 200_000


class Prompt(PlainArea):
    """A text area that grows with its text up to eight lines."""

    DEFAULT_CSS = """
    Prompt {
        height: auto;
        min-height: 3;
        max-height: 10;
        border: round $foreground 30%;
        padding: 0 1;
        background: $background;
        scrollbar-size-vertical: 1;
        &:focus { border: round $primary; background-tint: transparent; }
        & .text-area--cursor-line { background: transparent; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send the prompt", id="prompt.send"),
        Binding("ctrl+j,shift+enter,alt+enter", "newline", "New line", id="prompt.newline"),
        Binding("ctrl+g", "write_outside", "Write the prompt in $EDITOR", id="prompt.editor"),
    ]

    class Sent(Message):
        """The user pressed Enter; the prompt is ready for the next one. `instead_of` is the
        earlier prompt of which the text is a new version."""

        def __init__(self, text: str, instead_of: StoredMessage | None = None) -> None:
            super().__init__()
            self.text = text
            self.instead_of = instead_of

    class EditorWanted(Message):
        """The user wants to write in an editor of their own."""

    class Refused(Message):
        """What was pasted is not in the prompt; the sentence says why."""

        def __init__(self, sentence: str) -> None:
            super().__init__()
            self.sentence = sentence

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            id=id,
            soft_wrap=True,
            show_line_numbers=False,
            tab_behavior="focus",
            highlight_cursor_line=False,
        )
        # A blinking cursor repaints twice a second for as long as the window is open.
        self.cursor_blink = False
        self.editing: StoredMessage | None = None
        """The earlier prompt of which a new version is being written."""
        self._put_aside = ""
        self.first_hearer: Callable[[str], bool] | None = None
        """Gets every key first, and says whether it was meant for it."""

    def on_mount(self) -> None:
        self.name_keys()

    def name_keys(self) -> None:
        """Say in an empty prompt which keys are in force."""
        send, keys = key_of(self.app, "prompt.send"), key_of(self.app, "window.keys")
        self.placeholder = f"Write a prompt · {send} sends · / commands · @ files · {keys} keys"

    async def _on_key(self, event: events.Key) -> None:
        # Here, and not by Textual's way through the bindings: those with priority overtake the
        # keys that still wait in this widget's queue, so that a burst of typing would be sent
        # without its end; the others come after the text area has taken Enter for itself.
        if self.first_hearer is not None and self.first_hearer(event.key):
            event.stop()
            event.prevent_default()
            return
        app = self.app
        action = app.action_of(Prompt, event.key) if isinstance(app, KeyedApp) else None
        if action is not None and await app.run_action(action, self):
            event.stop()
            event.prevent_default()
        else:
            await super()._on_key(event)

    def action_send(self) -> None:
        """Hand the text over, and be ready for the next."""
        sent = self.Sent(self.text, self.editing)
        if not self.end_edit():
            self.put("")
        self.post_message(sent)

    def action_newline(self) -> None:
        self.insert("\n")

    def action_write_outside(self) -> None:
        self.post_message(self.EditorWanted())

    async def settled(self) -> None:
        """Wait until every key that this widget has got is in the text, or was sent."""
        for pump in self.ancestors_with_self:
            arrived = asyncio.Event()
            if pump is self.app or not pump.call_later(arrived.set):
                return
            await arrived.wait()

    def give_back(self, text: str) -> None:
        """Put text that could not be sent before what was typed since, on lines of its own."""
        self.put("\n".join(part for part in (text, self.text) if part))

    def put(self, text: str) -> None:
        """Show `text` with the cursor at its end; nothing to undo."""
        self.load_text(with_plain_line_ends(text))
        self.move_cursor(self.document.end)

    @property
    def unsent(self) -> str:
        """What was written for the end of the chat: in an edit, what was put aside."""
        return self.text if self.editing is None else self._put_aside

    def begin_edit(self, message: StoredMessage, text: str | None = None) -> None:
        """Take an earlier prompt in, as it was written or as it was changed to `text`; what was
        unsent is put aside."""
        if self.editing is None:
            self._put_aside = self.text
        self.editing = message
        self.put(without_blocks(message.content) if text is None else text)
        self.focus()

    def end_edit(self) -> bool:
        """The new version is on its way, or given up: what was put aside comes back. Whether
        there was one."""
        if self.editing is None:
            return False
        self.editing = None
        self.put(self._put_aside)
        self._put_aside = ""
        return True

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        size = len(event.text) + len(self.text)
        if size > LONGEST_TEXT:
            event.prevent_default()
            self.post_message(
                self.Refused(
                    f"With that the prompt has {size:,} characters, and it can have "
                    f"{LONGEST_TEXT:,}: paste less, or attach the file as @path."
                )
            )
            return
        await super()._on_paste(event)
