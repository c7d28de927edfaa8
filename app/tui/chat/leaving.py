"""Before words leave this machine: whether they may, and whether that is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from openchat_local.app.replies.remote import refuse_impossible, refuse_private
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.tui.loader import ModelLoader
    from openchat_local.app.tui.session import Session
    from openchat_local.models.engine.capabilities import RemotePlace


class StaysHere(OpenChatError):
    """A chat of this machine that would leave it, and nobody has said yet that it should."""


class Leaving:
    """Asked before every reply."""

    def __init__(
        self, session: Session, loader: ModelLoader, places: Callable[[], Sequence[RemotePlace]]
    ) -> None:
        """`places` is where the words of the next reply would go, beside this program."""
        self._session = session
        self._loader = loader
        self._places = places
        self._told: set[tuple[str, str]] = set()

    async def check(self, *, continues: bool = False) -> None:
        """Raise where the next reply of the active chat cannot be had of the engines that it
        would go to: of a private chat, or one that was on this machine so far, the first time.
        The same again is then a yes."""
        session, loaded = self._session, self._loader.loaded
        chat = session.active.chat
        private = session.active.temporary or (chat is not None and chat.private)
        for place in self._places():
            refuse_private(place, private=private)
            refuse_impossible(place, session.options().condition, continues=continues)
            if chat is None or not place.leaves or not chat.message_count:
                continue
            if not _was_there(chat.model, place) and (chat.id, place.label) not in self._told:
                self._told.add((chat.id, place.label))
                raise StaysHere(
                    f"So far this chat was not at {place.place}. All of it goes there if you ask "
                    "again; /model NAME has a model of this machine answer instead."
                )
        if chat is None or loaded is None or loaded.remote is None:
            return
        if not _was_there(chat.model, loaded.remote):
            await session.change(model=loaded.name, adapter="none", template=None)


def mark_of(places: Sequence[RemotePlace]) -> str:
    """What the status bar says of where words go; "" where they go nowhere."""
    if not places:
        return ""
    return "remote" if any(place.leaves for place in places) else "local server"


def _was_there(model: str | None, place: RemotePlace) -> bool:
    return model is not None and model.endswith(f"@{place.label}")
