"""What other windows on the same home have written, shown here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.tui.chat.context import WindowContext

MORE_BELOW = "There is something new at the end of this chat, from another window."


class OtherWindows:
    """Asks the database, which knows without a look at its rows whether anybody wrote."""

    def __init__(self, stage: WindowContext) -> None:
        self._stage = stage
        self._behind = False

    async def look(self) -> None:
        """Take over what is new: in the list, and in the open chat."""
        try:
            if await self._stage.desk.others_wrote():
                self._behind = True
                await self._stage.refresh_list()
            if self._behind:
                await self._catch_up()
        except OpenChatError:
            return  # the user's next action tells what is wrong; the timer would repeat it

    async def _catch_up(self) -> None:
        desk, pane = self._stage.desk, self._stage.pane
        chat_id = desk.shown.id
        if chat_id is None or pane.busy or pane.editing is not None:
            self._behind = chat_id is not None  # looked at again when that is over
            return
        branch = await desk.look_again()
        if desk.shown.id != chat_id or branch == list(pane.transcript.turns):
            self._behind = False
        elif pane.transcript.at_end:
            self._behind = False
            pane.show(chat_id, branch)
            self._stage.counter.recount_soon(0.0)
        elif not pane.notice.text:  # a reader who has scrolled up is not dragged down
            pane.notice.tell(MORE_BELOW, stays=True)
