"""Why no bundle can be made."""

from __future__ import annotations

from openchat_local.models.errors import OpenChatError


class BundleError(OpenChatError):
    """Something that a bundle needs cannot be had."""
