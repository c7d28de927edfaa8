"""What people said of a reply in another program: good or bad, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from openchat_local.app.chats.formats.checks import is_text

_NO_REASON = frozenset({"", "other"})


class Verdict(NamedTuple):
    """A rating, 1 or -1, and in a sentence why; None where nobody said."""

    rating: int
    reason: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The columns of the reply's row."""
        return {"rating": self.rating, "rating_reason": self.reason}


def reason_in_words(ticked: Iterable[Any], written: Any) -> str | None:
    """The reasons that were ticked and what was written beside them, as one text: "not
    factually correct: Rome is in Italy"."""
    names = [
        each.replace("_", " ").replace("-", " ").strip()
        for each in ticked
        if isinstance(each, str) and is_text(each)
    ]
    said = ", ".join(name for name in names if name.lower() not in _NO_REASON)
    more = written.strip() if isinstance(written, str) and is_text(written) else ""
    return ": ".join(filter(None, (said, more))) or None
