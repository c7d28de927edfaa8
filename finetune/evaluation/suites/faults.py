"""What goes wrong with a suite."""

from __future__ import annotations

from openchat_local.models.errors import OpenChatError


class SuiteError(OpenChatError):
    """A suite is not there, cannot be fetched, or is not what was fetched."""
