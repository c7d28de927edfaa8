"""Showing one message of a long chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openchat_local.app.tui.widgets.chat_pane import ChatPane


def reveal(pane: ChatPane, message_id: str) -> None:
    """Scroll to a message of the open chat, and mark it."""
    pane.transcript.select(message_id)
    pane.transcript.reveal(message_id)
