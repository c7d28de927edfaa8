"""What goes wrong with questions and their answers."""

from __future__ import annotations

from openchat_local.models.errors import OpenChatError


class AnswersError(OpenChatError):
    """Questions that cannot be asked, or answers that cannot be told right from wrong."""
