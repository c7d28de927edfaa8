"""Who wrote a reply: model, adapter and condition, said the same way by every face.

The window's status bar, panel and commands, the line under a reply, `ask`, `history` and
exports all say it with what is here, so that no two of them can disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from openchat_local.app.printable import one_line

if TYPE_CHECKING:
    from openchat_local.app.chats.records import StoredMessage


@dataclass(frozen=True, slots=True)
class Answerer:
    """`condition` is "" for none at all, and None where it is not known: the model that would
    choose it is not loaded."""

    model: str
    adapter: str | None
    condition: str | None

    def is_same(self, other: Answerer) -> bool:
        """Whether the same model with the same adapter writes, under whatever condition."""
        return (self.model, self.adapter) == (other.model, other.adapter)

    def in_words(self) -> str:
        """In as few words as there are: "starter + mine · Expert"."""
        adapter = f" + {self.adapter}" if self.adapter else ""
        condition = f" · {self.condition}" if self.condition else ""
        return one_line(f"{self.model}{adapter}{condition}")


def who_wrote(message: StoredMessage) -> Answerer | None:
    """Who wrote a reply; None of what a person wrote, where it is not known, and where it must
    not be known before a vote."""
    if message.model is None or message.edited or message.vote == "unvoted":
        return None
    return Answerer(message.model, message.adapter, message.condition)
