"""Showing one message of a long chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openchat_local.app.tui.widgets.chat_pane import ChatPane


def reveal(pane: ChatPane, message_id: str) -> None:
    """Scroll to a message of the open chat."""
    if (method := getattr(pane, "reveal", None)) is not None:
        method(message_id)
