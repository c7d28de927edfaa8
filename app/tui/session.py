"""The chat that lies open, and the store that it came from. No widget is known here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack

from openchat_local.app.replies.prompt import Prompted, unsent_prompt
from openchat_local.app.replies.stream import send_prompt
from openchat_local.app.settings.model import Preset, Settings
from openchat_local.app.settings.per_chat import EffectiveSettings, chat_fields, effective_settings
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from pathlib import Path

    from openchat_local.app.chats import Chat, ChatFields, ChatStore, StoredMessage
    from openchat_local.models.engine.protocol import LoadedModel

P = ParamSpec("P")
R = TypeVar("R")

TEMPORARY = "◌"
LISTED_CHATS = 1000
FOUND = 50


@dataclass(slots=True, eq=False)
class ActiveChat:
    """The chat on the screen. A new one has no row until there is a word to keep; that of a
    temporary one is in memory alone."""

    chat: Chat | None = None
    temporary: bool = False
    wanted: dict[str, Any] = field(default_factory=dict)
    """The options of a chat without a row, for when it has one."""
    making: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def options(self) -> Mapping[str, Any]:
        """The chat's own options, as columns of its row."""
        return self.wanted if self.chat is None else chat_fields(self.chat)

    @property
    def id(self) -> str | None:
        return None if self.chat is None else self.chat.id


class Session:
    """Every call goes through one thread, in the order of the calls: a draft never overtakes
    the prompt that it became. Each raises OpenChatError where the store cannot be opened or
    does not do as it is asked."""

    def __init__(self, home: Path, settings: Settings) -> None:
        self.active = ActiveChat()
        self.home = home
        self.settings = settings
        self._adapter = settings.adapter
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._store: ChatStore | None = None
        self._memory: ChatStore | None = None
        self._in_memory: set[str] = set()
        self._problem = OpenChatError("The chats are still being opened; try again in a moment.")
        self._data_version = 0
        self._opened = asyncio.Event()
        self._given_up = threading.Event()

    # The store

    async def run(
        self, call: Callable[Concatenate[ChatStore, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """The result of `call(store, *args, **kwargs)`. The first of the arguments names a chat
        or a message, and the store is the one that has it: that of the home, or the one in
        memory, which has the temporary chats."""
        if self._memory is None:
            return await self._in_thread(partial(call, self.store, *args, **kwargs))
        store, memory = self._store, self._memory

        def called() -> R:
            if args and self._is_in(memory, args[0]):
                return call(memory, *args, **kwargs)
            if store is None:
                raise self._problem
            return call(store, *args, **kwargs)

        return await self._in_thread(called)

    def _is_in(self, memory: ChatStore, named: object) -> bool:
        """Whether a chat or a message of this id is one of the temporary ones."""
        from openchat_local.app.chats import MessageNotFound

        if named in self._in_memory:
            return True
        with suppress(MessageNotFound):
            return isinstance(named, str) and memory.message(named) is not None
        return False

    async def _in_thread(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    @property
    def store(self) -> ChatStore:
        if self._store is None:
            raise self._problem
        return self._store

    def store_of(self, chat_id: str | None) -> ChatStore:
        """Where a chat is: on disk, or in the memory of this window."""
        if self._memory is not None and chat_id in self._in_memory:
            return self._memory
        return self.store

    def is_temporary(self, chat_id: str | None) -> bool:
        """Whether nothing of the chat is on disk."""
        return chat_id in self._in_memory

    async def open(self) -> None:
        """Open the store; until then, and when that fails, everything else raises."""
        try:
            await self._in_thread(self._open)
        except OpenChatError as problem:
            self._problem = problem
            raise
        finally:
            self._opened.set()

    def _open(self) -> None:
        from openchat_local.app.chats import ChatStore

        # Here, in the store's thread: a window that closes meanwhile finds it and closes it.
        self._store = ChatStore.open(self.home, self._given_up.is_set)

    @property
    def is_opening(self) -> bool:
        """Whether it is still to be seen if the store can be opened."""
        return not self._opened.is_set()

    async def opened(self) -> None:
        """Wait until the store is open, or has failed to: a prompt may be sent before that."""
        await self._opened.wait()

    async def close(self) -> None:
        """Close the store after what was begun; from here on everything raises. A store that
        is still being opened, because another instance does so, is not waited for."""
        if not self._given_up.is_set():
            self._given_up.set()
            await self._in_thread(lambda: None)  # behind the opening, which now ends
        store, self._store = self._store, None
        memory, self._memory = self._memory, None
        self._problem = OpenChatError("This window is being closed.")
        if memory is not None:
            await self._in_thread(memory.close)
        if store is not None:
            await self._in_thread(store.close)
        self._thread.shutdown()

    # All chats

    async def chats(self) -> list[Chat]:
        """Those of the list; what is new of the active one is taken over."""
        chats = await self._in_thread(partial(self.store.chats, limit=LISTED_CHATS))
        memory = self._memory
        temporary = [] if memory is None else await self._in_thread(memory.chats)
        await self._take_over([*chats, *temporary])
        for chat in temporary:
            chats.append(replace(chat, title=f"{TEMPORARY} {chat.title or 'Temporary chat'}"))
        if temporary:
            chats.sort(key=lambda chat: (not chat.pinned, -chat.updated_at))
        return chats

    async def _take_over(self, chats: Sequence[Chat]) -> None:
        """Know the active chat as it is among `chats`, which were just read."""
        from openchat_local.app.chats import ChatNotFound, ChatStore

        active = self.active
        if active.chat is None:
            return
        now = next((chat for chat in chats if chat.id == active.id), None)
        if now is None:  # older than all that are listed, or gone
            with suppress(ChatNotFound):
                now = await self.run(ChatStore.chat, active.chat.id)
        if now is not None:
            # Not the draft: what stands in the prompt here is newer.
            active.chat = replace(now, draft=active.chat.draft)

    async def others_wrote(self) -> bool:
        """Whether another window on the same home changed something since the last call."""
        before, self._data_version = (
            self._data_version,
            await self._in_thread(self.store.data_version),
        )
        return before != self._data_version

    async def forget_states(self, chat_id: str) -> None:
        """Remove what is kept on disk to open the chat faster."""
        from openchat_local.app.paths import states_dir
        from openchat_local.models.engine.states import forget_chat

        await self._in_thread(partial(forget_chat, states_dir(), chat_id))

    # The active chat

    async def load(self, chat_id: str) -> ActiveChat:
        """The chat as it is on disk, to be laid open. Raises ChatNotFound."""
        from openchat_local.app.chats import ChatStore

        chat = await self.run(ChatStore.chat, chat_id)
        return ActiveChat(chat, temporary=self.is_temporary(chat_id))

    async def look_again(self) -> list[StoredMessage]:
        """The active chat as others have left it: its shown branch. Raises ChatNotFound."""
        from openchat_local.app.chats import ChatStore

        active = self.active
        assert active.chat is not None
        chat = await self.run(ChatStore.chat, active.chat.id)
        active.chat = replace(chat, draft=active.chat.draft)
        return await self.run(ChatStore.branch, chat.id)

    async def send(
        self, active: ActiveChat, text: str, instead_of: StoredMessage | None = None
    ) -> Chat:
        """Put a prompt on disk, in a new row if the chat has none yet; its draft goes.
        `instead_of` is the earlier prompt of which it is a new version."""
        from openchat_local.app.chats import ChatStore

        chat = await self._row(active)
        await self.run(send_prompt, chat.id, text, instead_of)
        active.chat = await self.run(ChatStore.set_draft, chat.id, "")
        return active.chat

    async def save_draft(self, active: ActiveChat, text: str) -> None:
        """Put an unsent prompt on disk, if it is not there already."""
        from openchat_local.app.chats import ChatStore

        if text != ("" if active.chat is None else active.chat.draft):
            chat = await self._row(active)
            active.chat = await self.run(ChatStore.set_draft, chat.id, text)

    async def prompted(
        self,
        unsent: str,
        instead_of: StoredMessage | None = None,
        loaded: LoadedModel | None = None,
    ) -> Prompted:
        """The active chat as the engine would get it that has `loaded` a model, with the unsent
        prompt, and which of its messages are in it."""
        chat = self.active.chat
        if chat is not None and (self._store is not None or self.active.temporary):
            return await self.run(unsent_prompt, chat.id, unsent, instead_of, loaded)
        now = self.options()
        system = (Message("system", now.system_prompt),) if now.system_prompt else ()
        turns = (*system, Message("user", unsent)) if unsent else ()
        return Prompted(Conversation(turns, now.condition), (0,) * len(turns))

    async def _row(self, active: ActiveChat) -> Chat:
        from openchat_local.app.chats import ChatStore

        async with active.making:
            if active.chat is None:
                fields = {
                    "system_prompt": self.settings.system_prompt,
                    "model": self.settings.model,
                    "adapter": self._adapter,
                    "template": self.settings.template,
                    "condition": self.settings.condition,
                } | active.wanted
                if not active.temporary:
                    active.chat = await self._in_thread(partial(self.store.new_chat, **fields))
                    return active.chat
                if self._memory is None:
                    self._memory = await self._in_thread(ChatStore.in_memory)
                # A private one too: the engine keeps no state of it, and no other chat offers
                # its prompts.
                new = partial(self._memory.new_chat, **fields, private=True)
                active.chat = await self._in_thread(new)
                self._in_memory.add(active.chat.id)
            return active.chat

    # Its options

    def options(self) -> EffectiveSettings:
        """The options in force in the active chat."""
        defaults = {"adapter": self._adapter}
        return effective_settings(self.settings, defaults | dict(self.active.options))

    async def change(self, **fields: Unpack[ChatFields]) -> None:
        """Give the active chat these options, from the next reply on."""
        from openchat_local.app.chats import ChatStore

        active = self.active
        if active.chat is None:
            active.wanted |= fields
        else:
            active.chat = await self.run(ChatStore.update_chat, active.chat.id, **fields)

    async def use_adapter(self, adapter: str) -> None:
        """Note that this adapter answers in the active chat, and in new ones."""
        self._adapter = adapter
        if self.active.chat is not None:
            await self.change(adapter=adapter)

    async def use_model(self, model: str) -> None:
        """Note that this model answers in the active chat, and in new ones, with nothing that
        belonged to the one before."""
        changes: dict[str, Any] = {"model": model, "adapter": None, "template": None}
        self.settings = self.settings.model_copy(update=changes)
        self._adapter = None
        self.active.wanted.pop("adapter", None)
        if self.active.chat is not None:
            await self.change(model=model, adapter="none", template=None)

    def answers_there(self, model: str) -> None:
        """Note that a remote model answers, by its full name: new chats remember that, and nothing
        of a model of this machine."""
        changes: dict[str, Any] = {"model": model, "adapter": None, "template": None}
        self.settings = self.settings.model_copy(update=changes)
        self._adapter = None

    def learn_preset(self, name: str, values: Mapping[str, Any]) -> None:
        """Know a preset that was just written into the settings file."""
        presets = {**self.settings.presets, name: Preset.model_validate(values)}
        self.settings = self.settings.model_copy(update={"presets": presets})
