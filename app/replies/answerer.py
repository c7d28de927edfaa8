"""Who answers, or has answered: model, adapter and condition, said the same way by every face.

The window's status bar, panel and commands, the line under a reply, `ask` and `history` all
say it with what is here, so that no two of them can disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from openchat_local.app.printable import one_line

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage
    from openchat_local.app.settings.per_chat import Held
    from openchat_local.models.engine.protocol import LoadedModel

NO_ADAPTER = "none"


@dataclass(frozen=True, slots=True)
class Answerer:
    """`condition` is "" for none at all, and None where it is not known: the model that would
    choose it is not loaded."""

    model: str
    adapter: str | None
    condition: str | None

    def in_words(self) -> str:
        """In as few words as there are: "starter + mine · Expert"."""
        adapter = f" + {self.adapter}" if self.adapter else ""
        condition = f" · {self.condition}" if self.condition else ""
        return one_line(f"{self.model}{adapter}{condition}")


def answerer(now: Held, loaded: LoadedModel | None) -> Answerer:
    """Who gives the next reply of a chat that is held so, by the model that is loaded; as far
    as that can be told without one."""
    if loaded is None:
        adapter = None if now.adapter == NO_ADAPTER else now.adapter
        return Answerer(now.model, adapter, now.condition)
    adapter = loaded.adapter.name if loaded.adapter else None
    return Answerer(loaded.name, adapter, condition_in_force(now.condition, loaded))


def who_wrote(message: StoredMessage) -> Answerer | None:
    """Who wrote a reply; None of what a person wrote, and where it is not known."""
    if message.model is None or message.edited:
        return None
    return Answerer(message.model, message.adapter, message.condition)


def condition_in_force(condition: str | None, loaded: LoadedModel) -> str:
    """The condition of the next reply: the chat's where it has one ("" for none at all), else
    the adapter's or the template's."""
    return (loaded.default_condition if condition is None else condition).strip()


def condition_in_words(condition: str | None, loaded: LoadedModel | None) -> str:
    """The condition of the next reply, and whose it is where it is not the chat's."""
    if condition is None:
        if loaded is None:
            return "the model's own"
        adapter = loaded.adapter
        owner = "adapter" if adapter and adapter.condition is not None else "model"
        return f"{_quoted(loaded.default_condition)}, the {owner}'s own"
    return _quoted(condition.strip())


def _quoted(condition: str) -> str:
    return f"{condition!r}" if condition else "none"
