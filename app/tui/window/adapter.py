"""The adapter that answers, changed while the window is open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from openchat_local.app.tui.adapter_command import adapter_choices, adapter_in_words

if TYPE_CHECKING:
    from openchat_local.app.tui.window.stage import Stage


async def change_adapter(stage: Stage, name: str) -> bool:
    """Answer with the adapter `name` from now on; without a name, say what there is. Whether
    another answers now; where none does, it was told why."""
    pane = stage.pane
    with stage.telling():
        if not name:
            loaded = pane.room.loaded
            in_force = "" if loaded is None else adapter_in_words(loaded) + " "
            pane.notice.tell(in_force + await asyncio.to_thread(adapter_choices))
        elif pane.busy:
            pane.notice.tell("A reply is being written: wait for it, or press Esc to stop it.")
        else:
            model = await asyncio.to_thread(pane.room.set_adapter, name)
            pane.notice.tell(adapter_in_words(model))
            await stage.desk.hold_with(name)
            return True
    return False
