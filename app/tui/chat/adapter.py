"""The adapter that answers, changed while the window is open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from openchat_local.app.settings.per_chat import ADAPTER, adapter_system_prompt
from openchat_local.app.tui.adapter_command import adapter_choices, adapter_in_words
from openchat_local.app.tui.chat.context import BUSY

if TYPE_CHECKING:
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.models.engine.protocol import LoadedModel


async def change_adapter(stage: WindowContext, name: str) -> bool:
    """Answer with the adapter `name` from now on; without a name, say what there is. Whether
    another answers now; where none does, it was told why."""
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
            in_force = adapter_in_words(model, stage.desk.held().condition)
            pane.notice.tell(in_force + await _system_prompt_offered(stage, model))
            return True
    return False


async def _system_prompt_offered(stage: WindowContext, model: LoadedModel) -> str:
    """A sentence where the adapter knows a system prompt that the chat does not have."""
    if model.adapter is None:
        return ""
    system = await asyncio.to_thread(adapter_system_prompt, model.adapter.path)
    if not system or system == stage.desk.held().system_prompt:
        return ""
    return f" It was trained under a system prompt: /system {ADAPTER} takes it for this chat."
