"""An earlier prompt in the prompt box, to be sent as a new version."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage
    from openchat_local.app.tui.widgets.prompt import Prompt
    from openchat_local.app.tui.widgets.transcript import Transcript


class Editing:
    """`message` is the prompt of which a new version is written; None at all other times."""

    def __init__(self, transcript: Transcript, prompt: Prompt) -> None:
        self.message: StoredMessage | None = None
        self._transcript = transcript
        self._prompt = prompt
        self._put_aside = ""

    def begin(self, message: StoredMessage) -> None:
        """Take a prompt into the box; what was unsent there is put aside."""
        if self.message is None:
            self._put_aside = self._prompt.text
        self.message = message
        self._transcript.keeps_selection = True
        self._transcript.select(message.id)
        self._prompt.put(message.content)
        self._prompt.focus()

    def end(self) -> bool:
        """The new version is on its way, or given up: what was put aside comes back."""
        if self.message is None:
            return False
        self.message = None
        self._transcript.keeps_selection = False
        self._transcript.select(None)
        self._prompt.put(self._put_aside)
        self._put_aside = ""
        return True
