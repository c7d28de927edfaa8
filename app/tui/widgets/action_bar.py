"""One line of keys above the prompt, while they mean something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

from openchat_local.app.tui.markdown.sections import has_files, has_thoughts

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage

EDITING = "Editing an earlier prompt · Enter sends it as a new version · Esc gives up"
PROMPT = "e edit · r answer again"
REPLY = "r again · e edit · + − rate"
CUT = "c continue"
FILES, THOUGHTS = "o files", "o thoughts"
RATED = "w why"
VERSIONS = "← → versions"
EVERY = "y k a copy it, code, chat · Esc"
EVERY_SHORT = "y k a copy · Esc"


def keys_for(message: StoredMessage | None) -> str:
    """What can be done with a message, by its keys."""
    if message is None:
        return ""
    keys = [PROMPT if message.role == "user" else REPLY]
    if message.rating is not None:
        keys.append(RATED)
    if message.finish_reason not in (None, "stop", "refused"):
        keys.append(CUT)
    if has_files(message):
        keys.append(FILES)
    if has_thoughts(message):
        keys.append(THOUGHTS)
    if message.siblings > 1:
        keys.append(VERSIONS)
    return " · ".join([*keys, EVERY if message.rating is None else EVERY_SHORT])


class ActionBar(Static):
    """Hidden while there is nothing to say."""

    DEFAULT_CSS = """
    ActionBar {
        display: none;
        height: auto;
        max-height: 2;
        padding: 0 2;
        color: $text-primary;
        background: $surface;
        &.-shown { display: block; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)

    def show(self, words: str) -> None:
        """Show these words, "" for none."""
        self.update(Content(words))
        self.set_class(bool(words), "-shown")
