"""The adapter that answers, changed while the window is open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from openchat_local.app.tui.adapter_command import adapter_choices, adapter_in_words
from openchat_local.app.tui.window.stage import BUSY

if TYPE_CHECKING:
    from openchat_local.app.tui.window.stage import Stage


async def change_adapter(stage: Stage, name: str) -> None:
    """Answer with the adapter `name` from now on; without a name, say what there is."""
    pane = stage.pane
    with stage.telling():
        if not name:
            loaded = pane.room.loaded
            condition = stage.desk.held().condition
            in_force = "" if loaded is None else adapter_in_words(loaded, condition) + " "
            pane.notice.tell(in_force + await asyncio.to_thread(adapter_choices))
        elif pane.busy:
            pane.notice.tell(BUSY, error=True)
        else:
            model = await asyncio.to_thread(pane.room.set_adapter, name)
            await stage.desk.hold_with(name)
            pane.notice.tell(adapter_in_words(model, stage.desk.held().condition))
