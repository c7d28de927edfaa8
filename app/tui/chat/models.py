"""What answers: a model and an adapter, changed or fetched while the window is open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from openchat_local.app.engine import installed_adapters, look_at_model, place_of_model
from openchat_local.app.replies.remote import refuse_private
from openchat_local.app.settings.per_chat import ADAPTER, DEFAULT, adapter_system_prompt
from openchat_local.app.settings.who_answers import condition_in_force, condition_in_words
from openchat_local.app.tui.chat.context import BUSY
from openchat_local.app.tui.pulling import Pull, Pulls
from openchat_local.app.tui.widgets.chat_pane import NOT_VOTED
from openchat_local.models.errors import AdapterError, OpenChatError
from openchat_local.models.library.adapters import NO_ADAPTER

if TYPE_CHECKING:
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.models.engine.capabilities import RemotePlace
    from openchat_local.models.engine.protocol import LoadedModel

COMMAND = "/adapter"


class Models:
    """Changes the model or the adapter that answers, in the active chat and in new ones."""

    def __init__(self, window: WindowContext) -> None:
        self._window = window
        self._pulls: Pulls | None = None

    @property
    def pulls(self) -> Pulls:
        """What is being fetched."""
        if self._pulls is None:
            self._pulls = Pulls(self._window.pane.screen)
        return self._pulls

    async def use(self, name: str) -> bool:
        """Answer with the model `name` from now on. Whether it does; where it does not, it was
        told why."""
        window, done = self._window, False
        with window.telling():
            if window.pane.busy:
                window.tell(BUSY if window.pane.is_writing else NOT_VOTED, error=True)
            else:
                await self._switch(name)
                done = True
        return done

    async def _switch(self, name: str) -> None:
        window, loader, session = self._window, self._window.loader, self._window.session
        await asyncio.to_thread(look_at_model, name, session.settings)  # else nothing changes
        if (place := place_of_model(name, session.settings)) is not None:
            chat = session.active.chat
            private = session.active.temporary or (chat is not None and chat.private)
            refuse_private(place, private=private)
        before = loader.loaded
        window.pane.load_other(name)
        window.let_others()  # a prompt is on disk at once, and waits there for the model
        try:
            model = await asyncio.to_thread(loader.set_model, name, session.settings)
        except OpenChatError:
            window.pane.load_again()
            raise
        await session.use_model(name if model.remote is None else model.name)
        notes = [note for note in (model.template_note, *model.notes) if note]
        if model.remote is not None and model.remote.leaves and session.active.chat is not None:
            notes.append("All of this chat goes there with your next prompt.")
        if before is not None and before.adapter:
            notes.append(f"The adapter {before.adapter.name} stays with {before.name}.")
        window.tell(" ".join((f"{model.name} answers from here on.", *notes)))
        window.show_options()

    async def use_adapter(self, name: str) -> bool:
        """Answer with the adapter `name` from now on; without a name, say what there is.
        Whether another answers now; where none does, it was told why."""
        window, loader, done = self._window, self._window.loader, False
        with window.telling():
            if not name:
                loaded, condition = loader.loaded, window.session.options().condition
                in_force = "" if loaded is None else adapter_in_words(loaded, condition) + " "
                window.tell(in_force + await asyncio.to_thread(adapter_choices))
            elif window.pane.busy:
                window.tell(BUSY if window.pane.is_writing else NOT_VOTED, error=True)
            else:
                if loader.loaded is None:
                    window.let_others()  # they need not wait until there is a model
                    await asyncio.to_thread(loader.wait)
                if loader.loaded is not None and loader.loaded.remote is not None:
                    return await self._use_there(name, loader.loaded.remote)
                model = await asyncio.to_thread(loader.set_adapter, name)
                await window.session.use_adapter(name)
                in_force = adapter_in_words(model, window.session.options().condition)
                window.tell(in_force + await self._system_prompt_offered(model))
                done = True
        return done

    async def _use_there(self, name: str, place: RemotePlace) -> bool:
        """Answer with an adapter of the remote engine, where it has any: its model of that name.
        Raises OpenChatError."""
        if name == NO_ADAPTER and not place.can.adapters:
            self._window.tell(f"{self._name} answers without an adapter of this machine.")
            return True
        if (why := place.why_not("adapters")) is not None:
            raise AdapterError(why)
        base, *others = place.can.models
        model = base if name == NO_ADAPTER else f"{base}:{name}"
        if model not in place.can.models:
            there = [one.removeprefix(f"{base}:") for one in others]
            raise AdapterError(
                f"{place.place} has no adapter {name!r} of {base}: it has "
                f"{', '.join(there) or 'none'}."
            )
        await self._switch(f"{model}@{place.label}")
        return True

    @property
    def _name(self) -> str:
        loaded = self._window.loader.loaded
        return "" if loaded is None else loaded.name

    async def _system_prompt_offered(self, model: LoadedModel) -> str:
        """A sentence where the adapter knows a system prompt that the chat does not have."""
        if model.adapter is None:
            return ""
        system = await asyncio.to_thread(adapter_system_prompt, model.adapter.path)
        if not system or system == self._window.session.options().system_prompt:
            return ""
        return f" It was trained under a system prompt: /system {ADAPTER} takes it for this chat."

    def tell_end(self, pull: Pull) -> None:
        """Tell how fetching a model has ended."""
        window = self._window
        if pull.model is not None:
            reference = pull.model.card.reference
            window.tell(
                f"{reference} is installed and verified: /model {reference} answers with it."
            )
        elif isinstance(pull.problem, OpenChatError):
            window.tell(str(pull.problem), error=not pull.cancelled)
        elif pull.problem is not None:
            raise pull.problem

    def put_away(self) -> None:
        """The window closes: what is being fetched goes on another time."""
        if self._pulls is not None:
            self._pulls.cancel()
        self._window.loader.close()


def adapter_in_words(model: LoadedModel, condition: str | None) -> str:
    """Which adapter is in force, and what it brings along; `condition` is the chat's own."""
    adapter = model.adapter
    if adapter is None:
        return f"{model.name} answers without an adapter."
    under = f"under the condition {condition_in_words(condition, model)}"
    if not condition_in_force(condition, model):
        under = "without a condition"
    sentence = f"{model.name} answers with the adapter {adapter.name}, {under}."
    if condition is not None and adapter.condition not in (None, condition.strip()):
        sentence += f" It was trained for {adapter.condition!r}: /condition {DEFAULT} takes that."
    return " ".join((sentence, *model.notes))


def adapter_choices() -> str:
    """What can be written after the command."""
    names = installed_adapters().names()
    installed = f"Installed: {', '.join(names)}." if names else "No adapter is installed yet."
    return f"{installed} {COMMAND} NAME uses one, {COMMAND} {NO_ADAPTER} goes without."
