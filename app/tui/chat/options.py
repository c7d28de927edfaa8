"""What the open chat is held with: changed while it goes on, from the next reply on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.app.engine import adapter_path
from openchat_local.app.paths import config_path
from openchat_local.app.settings.file import write_setting
from openchat_local.app.settings.per_chat import (
    ADAPTER,
    DEFAULT,
    SAMPLING_NAMES,
    ChatSettingError,
    adapter_system_prompt,
    as_preset,
    in_words,
    preset_fields,
    sampling_value,
    text_value,
)
from openchat_local.app.settings.who_answers import condition_in_words
from openchat_local.app.tui.chat.adapter import change_adapter
from openchat_local.models.library.adapters import NO_ADAPTER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from openchat_local.app.tui.chat.context import WindowContext

TEXTS = {"condition": "condition", "system_prompt": "system prompt"}


class Tuning:
    """Each method takes what the user wrote; "" asks what is in force."""

    def __init__(
        self,
        stage: WindowContext,
        changed: Callable[[], None],
        use_model: Callable[[str], Awaitable[bool]],
    ) -> None:
        """`changed` is called when the open chat is held with something else, `use_model` is
        how a preset changes the model."""
        self._stage = stage
        self._use_model = use_model
        self._desk = stage.desk
        self._changed = changed
        # The engine has the new adapter before the chat is known to be held with it: until
        # then nobody may bring back the one before.
        self._swapping = 0

    async def set_text(self, name: str, text: str) -> None:
        """Change the condition or the system prompt."""
        if name == "system_prompt" and text == ADAPTER:
            with self._stage.telling():
                await self._set(name, text, {name: await self._adapters_system_prompt()})
            return
        value = text_value(self._desk.settings, name, text) if text else None
        await self._set(name, text, {name: value})

    async def _adapters_system_prompt(self) -> str:
        loaded = self._stage.pane.room.loaded
        adapter = None if loaded is None else loaded.adapter
        path = None if adapter is None else adapter.path
        system = path and await asyncio.to_thread(adapter_system_prompt, path)
        if not system:
            raise ChatSettingError(
                "No adapter that knows a system prompt answers here: write one as /system TEXT."
            )
        return system

    async def set_sampling(self, name: str, text: str) -> None:
        """Change one field of the sampling."""
        with self._stage.telling():
            value = sampling_value(name, text) if text else None
            own = dict(self._desk.shown.fields.get("sampling") or {})
            own.pop(name, None)
            if value is not None:
                own[name] = value
            await self._set(name, text, {"sampling": own or None})

    async def set_adapter(self, name: str) -> bool:
        """Answer with this adapter from now on, in new chats too; whether it does."""
        self._swapping += 1
        try:
            done = await change_adapter(self._stage, NO_ADAPTER if name == DEFAULT else name)
        finally:
            self._swapping -= 1
        self._changed()
        return done

    async def use_preset(self, text: str) -> None:
        """Hold the chat with a preset, or keep what it is held with under "save NAME"."""
        word, _, name = text.partition(" ")
        with self._stage.telling():
            if word == "save" and name.strip():
                await self.save_preset(name.strip())
                return
            if not text:
                names = ", ".join(sorted(self._desk.settings.presets))
                there = f"Presets: {names}." if names else "There is no preset yet."
                self._stage.pane.notice.tell(
                    f"{there} /preset NAME uses one; /preset save NAME keeps what this chat is "
                    "held with."
                )
                return
            fields = preset_fields(self._desk.settings, text)
            model, adapter = fields.pop("model", None), fields.pop("adapter", None)
            other = model is not None and model != self._desk.held().model
            # What stands in the way was told, and the chat stays as it was.
            if other and not await self._use_model(model):
                return
            if adapter is not None and not await self.set_adapter(adapter):
                return
            if not await self._apply(fields):
                return
            self._stage.pane.notice.tell(f"This chat is held with the preset {text}.")

    async def save_preset(self, name: str) -> None:
        """Keep what is the chat's own under a name, in the settings file.

        Raises OpenChatError.
        """
        values = as_preset(self._desk.held())
        await asyncio.to_thread(write_setting, config_path(), ("presets", name), values)
        self._desk.learn_preset(name, values)
        self._stage.pane.notice.tell(
            f"The preset {name} is in {config_path()}: /preset {name} holds a chat with it."
        )

    async def prepare(self) -> None:
        """Have the engine answer as the open chat is held.

        Nothing happens to the engine while it loads or writes: this is called again after.
        Raises OpenChatError, of an adapter that is not there any more.
        """
        room, now = self._stage.pane.room, self._desk.held()
        self._stage.pane.sampling = now.sampling.as_sampling()
        wanted = self._desk.shown.fields.get("adapter")
        if self._swapping or wanted is None or room.engine is None or room.loaded is None:
            return
        if self._stage.pane.reply is not None:
            return
        path = await asyncio.to_thread(adapter_path, wanted)
        loaded = room.loaded.adapter
        if (str(path) if path else None) != (loaded.path if loaded else None):
            await asyncio.to_thread(room.set_adapter, wanted)

    def tell_other_model(self) -> None:
        """Say so where another model answers than the one that the chat was held with."""
        chat, loaded = self._desk.shown.chat, self._stage.pane.room.loaded
        model = None if chat is None else chat.model
        if model is None or loaded is None or not chat or not chat.message_count:
            return
        if loaded.name not in (model, model.partition(":")[0], Path(model).stem):
            self._stage.pane.notice.tell(
                f"This chat was held with {model}; now {loaded.name} answers. "
                f"/model {model} changes that."
            )

    async def _set(self, name: str, text: str, fields: dict[str, Any]) -> None:
        if text and not await self._apply(fields):
            return
        now, label = self._desk.held(), TEXTS.get(name, name.replace("_", " "))
        value = getattr(now.sampling if name in SAMPLING_NAMES else now, name)
        since = " from the next reply on" if text else ""
        shown = in_words(name, value)
        if name == "condition":
            shown = condition_in_words(now.condition, self._stage.pane.room.loaded)
        self._stage.pane.notice.tell(f"The {label} is {shown}{since}.")

    async def _apply(self, fields: dict[str, Any]) -> bool:
        """Whether it was done; if not, why is told already."""
        done = False
        async with self._stage.taking_turns():
            await self._desk.tune(**fields)
            done = True
        self._stage.counter.recount_soon(0.0)
        self._changed()
        return done
