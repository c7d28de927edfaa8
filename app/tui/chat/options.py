"""The options of the active chat, changed while it goes on, from the next reply on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.app.engine import adapter_path
from openchat_local.app.paths import config_path
from openchat_local.app.replies.remote import refuse_impossible
from openchat_local.app.replies.thinking import why_fixed
from openchat_local.app.settings.file import write_setting
from openchat_local.app.settings.per_chat import (
    ADAPTER,
    DEFAULT,
    SAMPLING_NAMES,
    THINKING,
    ChatSettingError,
    EffectiveSettings,
    adapter_system_prompt,
    as_preset,
    in_words,
    preset_fields,
    sampling_value,
    text_value,
)
from openchat_local.app.settings.who_answers import condition_in_words
from openchat_local.models.library.adapters import NO_ADAPTER

if TYPE_CHECKING:
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.models import Models

TEXTS = {"condition": "condition", "system_prompt": "system prompt"}


class Options:
    """Each method takes what the user wrote; "" asks what is in force."""

    def __init__(self, window: WindowContext, models: Models) -> None:
        self._window = window
        self._session = window.session
        self._models = models
        # The engine has the new adapter before the chat is known to have it: until then nobody
        # may bring back the one before.
        self._swapping = 0

    async def set_text(self, name: str, text: str) -> None:
        """Change the condition or the system prompt."""
        if name == "system_prompt" and text == ADAPTER:
            with self._window.telling():
                await self._set(name, text, {name: await self._adapters_system_prompt()})
            return
        value = text_value(self._session.settings, name, text) if text else None
        with self._window.telling():
            if name == "condition" and text:
                refuse_impossible(self._window.loader.place, value)
            await self._set(name, text, {name: value})

    async def _adapters_system_prompt(self) -> str:
        loaded = self._window.loader.loaded
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
        with self._window.telling():
            value = sampling_value(name, text) if text else None
            place = self._window.loader.place
            if value is not None and place is not None and (why := place.misses(name)) is not None:
                raise ChatSettingError(why)
            own = dict(self._session.active.options.get("sampling") or {})
            own.pop(name, None)
            if value is not None:
                own[name] = value
            await self._set(name, text, {"sampling": own or None})

    async def set_thinking(self, text: str) -> None:
        """Have replies think first, or not, or as the model does by itself. Where the model
        cannot be asked, why is told, and nothing changes."""
        loaded = self._window.loader.loaded
        why = None if loaded is None else why_fixed(loaded)
        if why is None:
            await self.set_sampling(THINKING, text.casefold())
        else:
            self._window.tell(f"{why[:1].upper()}{why[1:]}.", error=bool(text))

    async def set_model(self, name: str) -> bool:
        """Answer with this model from now on, in new chats too; whether it does."""
        return await self._models.use(name)

    async def set_adapter(self, name: str) -> bool:
        """Answer with this adapter from now on, in new chats too; whether it does."""
        self._swapping += 1
        try:
            done = await self._models.use_adapter(NO_ADAPTER if name == DEFAULT else name)
        finally:
            self._swapping -= 1
        self._window.show_options()
        return done

    async def use_preset(self, text: str) -> None:
        """Give the chat the options of a preset, or keep its own under "save NAME"."""
        word, _, name = text.partition(" ")
        with self._window.telling():
            if word == "save" and name.strip():
                await self._save_preset(name.strip())
                return
            if not text:
                names = ", ".join(sorted(self._session.settings.presets))
                there = f"Presets: {names}." if names else "There is no preset yet."
                self._window.tell(
                    f"{there} /preset NAME uses one; /preset save NAME keeps the options of this "
                    "chat."
                )
                return
            fields = preset_fields(self._session.settings, text)
            model, adapter = fields.pop("model", None), fields.pop("adapter", None)
            other = model is not None and model != self._session.options().model
            # What stands in the way was told, and the chat stays as it was.
            if other and not await self.set_model(model):
                return
            if adapter is not None and not await self.set_adapter(adapter):
                return
            if await self._change(fields):
                self._window.tell(f"This chat has the options of the preset {text}.")

    async def _save_preset(self, name: str) -> None:
        """Keep the chat's own options under a name, in the settings file.

        Raises OpenChatError.
        """
        values = as_preset(self._session.options())
        await asyncio.to_thread(write_setting, config_path(), ("presets", name), values)
        self._session.learn_preset(name, values)
        self._window.tell(
            f"The preset {name} is in {config_path()}: /preset {name} gives its options to a chat."
        )

    async def prepare(self) -> None:
        """Have the engine answer with the options of the active chat.

        Nothing happens to the engine while it loads or writes: this is called again after.
        Raises OpenChatError, of an adapter that is not there any more.
        """
        pane, loader = self._window.pane, self._window.loader
        pane.sampling = self._session.options().sampling.as_sampling()
        wanted = self._session.options().adapter
        if self._swapping or wanted is None or loader.engine is None or loader.loaded is None:
            return
        if pane.reply is not None or loader.loaded.remote is not None:
            return
        path = await asyncio.to_thread(adapter_path, wanted)
        loaded = loader.loaded.adapter
        if (str(path) if path else None) != (loaded.path if loaded else None):
            await asyncio.to_thread(loader.set_adapter, wanted)

    def tell_other_model(self) -> None:
        """Say so where another model answers than the one of the chat so far."""
        chat, loaded = self._session.active.chat, self._window.loader.loaded
        model = None if chat is None else chat.model
        if model is None or loaded is None or not chat or not chat.message_count:
            return
        if loaded.name not in (model, model.partition(":")[0], Path(model).stem):
            remote = "" if loaded.remote is None else f" {loaded.remote.in_words()}"
            self._window.tell(
                f"Until now {model} answered in this chat; now {loaded.name} does. "
                f"/model {model} changes that.{remote}"
            )

    async def _set(self, name: str, text: str, fields: dict[str, Any]) -> None:
        if text and not await self._change(fields):
            return
        now, label = self._session.options(), TEXTS.get(name, name.replace("_", " "))
        shown = in_words(name, value_of(now, name))
        if name == "condition":
            shown = condition_in_words(now.condition, self._window.loader.loaded)
        since = " from the next reply on" if text else ""
        what = "Thinking" if name == THINKING else f"The {label}"
        self._window.tell(f"{what} is {shown}{since}.")

    async def _change(self, fields: dict[str, Any]) -> bool:
        """Whether it was done; if not, why is told already."""
        done = False
        async with self._window.taking_turns():
            await self._session.change(**fields)
            done = True
        self._window.meter.recount_soon(0.0)
        self._window.show_options()
        return done


def value_of(now: EffectiveSettings, name: str) -> object:
    """An option by its name, those of the sampling too; None of what is no option."""
    return getattr(now.sampling if name in SAMPLING_NAMES else now, name, None)
