"""The chat that lies open, and the store it came from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from openchat_local.app.replies.prompt import Prompted, conversation_of, unsent_prompt
from openchat_local.app.replies.stream import send_prompt
from openchat_local.app.settings.model import Preset, Settings
from openchat_local.app.settings.per_chat import EffectiveSettings, chat_fields, effective_settings
from openchat_local.app.tui.store_thread import StoreThread
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from pathlib import Path

    from openchat_local.app.chats import Chat, ChatFields, ChatStore, SearchHit, StoredMessage
    from openchat_local.app.chats.formats.export import ExportFormat

TEMPORARY = "◌"
LISTED_CHATS = 1000
FOUND = 50


@dataclass(slots=True, eq=False)
class OpenChat:
    """The chat on the screen. A new one has no row until there is a word to keep; that of a
    temporary one is in memory alone."""

    chat: Chat | None = None
    temporary: bool = False
    wishes: dict[str, Any] = field(default_factory=dict)
    """What a chat without a row is to be held with, once it has one."""
    making: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def fields(self) -> Mapping[str, Any]:
        """What the chat is held with, as columns of its row."""
        return self.wishes if self.chat is None else chat_fields(self.chat)

    @property
    def id(self) -> str | None:
        return None if self.chat is None else self.chat.id


class Session:
    """Every call goes through one thread, in order, and raises OpenChatError when the store
    cannot be opened or does not do as it is asked. No widget is known here."""

    def __init__(self, home: Path, settings: Settings) -> None:
        self.shown = OpenChat()
        self._adapter = settings.adapter
        self.home = home
        self.settings = settings
        self._lane = StoreThread("store")
        self._store: ChatStore | None = None
        self._memory: ChatStore | None = None
        self._in_memory: set[str] = set()
        self._problem = OpenChatError("The chats are still being opened; try again in a moment.")
        self._data_version = 0
        self._opened = asyncio.Event()
        self._given_up = threading.Event()

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
            await self._lane.run(self._open)
        except OpenChatError as problem:
            self._problem = problem
            raise
        finally:
            self._opened.set()

    def _open(self) -> None:
        from openchat_local.app.chats import ChatStore

        # Here, in the lane's thread: a window that closes meanwhile finds it and closes it.
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
            await self._lane.run(lambda: None)  # behind the opening, which now ends
        store, self._store = self._store, None
        memory, self._memory = self._memory, None
        self._problem = OpenChatError("This window is being closed.")
        if memory is not None:
            await self._lane.run(memory.close)
        if store is not None:
            await self._lane.run(store.close)
        self._lane.close()

    async def chats(self) -> list[Chat]:
        """As they are now; what is new of the open one is taken over."""
        chats = await self._lane.run(self.store.chats, limit=LISTED_CHATS)
        self._take_over(chats)
        if self._memory is not None:
            for chat in await self._lane.run(self._memory.chats):
                chats.append(replace(chat, title=f"{TEMPORARY} {chat.title or 'Temporary chat'}"))
            chats.sort(key=lambda chat: (not chat.pinned, -chat.updated_at))
        return chats

    def _take_over(self, chats: Sequence[Chat]) -> None:
        before = self.shown.chat
        now = None if before is None else next((c for c in chats if c.id == before.id), None)
        if before is not None and now is not None:
            # Not the draft: what stands in the prompt here is newer.
            self.shown.chat = replace(now, draft=before.draft)

    async def others_wrote(self) -> bool:
        """Whether another window on the same home changed something since the last call."""
        before, self._data_version = (
            self._data_version,
            await self._lane.run(self.store.data_version),
        )
        return before != self._data_version

    async def pick(self, chat_id: str) -> OpenChat:
        """The chat as it is on disk, to be laid open. Raises ChatNotFound."""
        chat = await self._lane.run(self.store_of(chat_id).chat, chat_id)
        return OpenChat(chat, temporary=self.is_temporary(chat_id))

    async def look_again(self) -> list[StoredMessage]:
        """The open chat as others have left it: its shown branch. Raises ChatNotFound."""
        shown = self.shown
        assert shown.chat is not None
        chat = await self._lane.run(self.store_of(shown.chat.id).chat, shown.chat.id)
        # Not the draft: what stands in the prompt here is newer.
        shown.chat = replace(chat, draft=shown.chat.draft)
        return await self.branch(chat.id)

    async def branch(self, chat_id: str) -> list[StoredMessage]:
        return await self._lane.run(self.store_of(chat_id).branch, chat_id)

    async def send(
        self, shown: OpenChat, text: str, instead_of: StoredMessage | None = None
    ) -> Chat:
        """Put a prompt on disk, in a new row if the chat has none yet; its draft goes.
        `instead_of` is the earlier prompt of which it is a new version."""
        chat = await self._row(shown)
        store = self.store_of(chat.id)
        await self._lane.run(send_prompt, store, chat.id, text, instead_of)
        shown.chat = await self._lane.run(store.set_draft, chat.id, "")
        return shown.chat

    async def hold_with(self, adapter: str) -> None:
        """Note that the open chat, and new ones, are held with this adapter."""
        self._adapter = adapter
        shown = self.shown
        if shown.chat is not None:
            update = self.store_of(shown.chat.id).update_chat
            shown.chat = await self._lane.run(update, shown.chat.id, adapter=adapter)

    async def hold_with_model(self, model: str) -> None:
        """Note that the open chat, and new ones, are held with this model, and with nothing
        that belonged to the one before."""
        changes: dict[str, Any] = {"model": model, "adapter": None, "template": None}
        self.settings = self.settings.model_copy(update=changes)
        self._adapter = None
        shown = self.shown
        shown.wishes.pop("adapter", None)
        if shown.chat is not None:
            update = self.store_of(shown.chat.id).update_chat
            shown.chat = await self._lane.run(
                partial(update, shown.chat.id, **changes | {"adapter": "none"})
            )

    def held(self) -> EffectiveSettings:
        """What the open chat is held with."""
        defaults = {"adapter": self._adapter}
        return effective_settings(self.settings, defaults | dict(self.shown.fields))

    async def tune(self, **fields: Unpack[ChatFields]) -> None:
        """Hold the open chat with these from the next reply on."""
        if self.shown.chat is None:
            self.shown.wishes |= fields
        else:
            await self.change(self.shown.chat.id, **fields)

    def learn_preset(self, name: str, values: Mapping[str, Any]) -> None:
        """Know a preset that was just written into the settings file."""
        presets = {**self.settings.presets, name: Preset.model_validate(values)}
        self.settings = self.settings.model_copy(update={"presets": presets})

    async def export(self, chat_id: str, format: ExportFormat) -> str:
        """The chat's shown branch as text, the whole chat for JSON. Raises ChatNotFound."""
        from openchat_local.app.chats.formats import export_chat

        return await self._lane.run(export_chat, self.store_of(chat_id), chat_id, format)

    async def save_draft(self, shown: OpenChat, text: str) -> None:
        """Put an unsent prompt on disk, if it is not there already."""
        if text != ("" if shown.chat is None else shown.chat.draft):
            chat = await self._row(shown)
            shown.chat = await self._lane.run(self.store_of(chat.id).set_draft, chat.id, text)

    async def is_unanswered(self, chat_id: str) -> bool:
        """Whether the last prompt has no reply, or none with a word in it."""
        branch = await self.branch(chat_id)
        return bool(branch) and (branch[-1].role == "user" or not branch[-1].content)

    async def conversation(self, unsent: str) -> Conversation:
        """The open chat as the engine would get it, with the unsent prompt."""
        chat = self.shown.chat
        if chat is None or (self._store is None and not self.shown.temporary):
            now = self.held()
            system = (Message("system", now.system_prompt),) if now.system_prompt else ()
            turns = (*system, Message("user", unsent)) if unsent else ()
            return Conversation(turns, now.condition)
        store = self.store_of(chat.id)
        chat = await self._lane.run(store.chat, chat.id)
        return await self._lane.run(conversation_of, store, chat, unsent)

    async def prompted(self, unsent: str, instead_of: StoredMessage | None = None) -> Prompted:
        """The open chat as the engine would get it, with the unsent prompt, and which of its
        messages are in it."""
        chat = self.shown.chat
        if chat is None or (self._store is None and not self.shown.temporary):
            conversation = await self.conversation(unsent)
            return Prompted(conversation, (0,) * len(conversation.messages))
        store = self.store_of(chat.id)
        return await self._lane.run(unsent_prompt, store, chat.id, unsent, instead_of)

    async def message(self, message_id: str) -> StoredMessage:
        """A message as it is now."""
        store = await self._store_of_message(message_id)
        return await self._lane.run(store.message, message_id)

    async def siblings(self, message_id: str) -> list[StoredMessage]:
        """The message and its other versions, oldest first."""
        store = await self._store_of_message(message_id)
        return await self._lane.run(store.siblings, message_id)

    async def show_leaf(self, chat_id: str, message_id: str) -> Chat:
        """Make the branch through this message that was last at work the one that is shown."""
        return await self._lane.run(self.store_of(chat_id).show_leaf, chat_id, message_id)

    async def rate(self, message_id: str, rating: int | None) -> StoredMessage:
        """Rate a reply: 1 good, -1 bad, None neither."""
        store = await self._store_of_message(message_id)
        return await self._lane.run(store.rate, message_id, rating)

    async def add_edited_reply(self, message: StoredMessage, text: str) -> StoredMessage:
        """Put what a reply should have said beside it; it is shown."""
        return await self._lane.run(
            self.store_of(message.chat_id).add_message,
            message.chat_id,
            message.parent_id,
            "assistant",
            text,
            edited=True,
        )

    async def as_markdown(self, chat_id: str) -> str:
        """The shown branch of a chat to be read elsewhere."""
        from openchat_local.app.chats.formats import export_chat

        return await self._lane.run(export_chat, self.store_of(chat_id), chat_id, "markdown")

    async def is_gone(self, chat_id: str) -> bool:
        """Whether somebody else has deleted the chat."""
        from openchat_local.app.chats import ChatNotFound

        try:
            await self._lane.run(self.store_of(chat_id).chat, chat_id)
        except ChatNotFound:
            return True
        return False

    async def delete_if_empty(self, chat_id: str) -> None:
        """Delete a chat in which nothing was ever said, by any window."""
        await self._lane.run(self.store_of(chat_id).delete_if_empty, chat_id)

    async def hide(self, chat_id: str) -> Chat | None:
        """Delete a chat so that `unhide` brings it back; its KV states go at once. None, and
        no harm done, when others have deleted it already."""
        from openchat_local.app.chats import ChatNotFound

        chat = None
        with suppress(ChatNotFound):
            chat = await self._lane.run(self.store_of(chat_id).hide_chat, chat_id)
        await self.forget_states(chat_id)
        return chat

    async def unhide(self, chat_id: str) -> Chat:
        """Bring back what `hide` deleted. Raises ChatNotFound if it is erased."""
        return await self._lane.run(self.store_of(chat_id).unhide_chat, chat_id)

    async def erase(self, chat_id: str) -> None:
        """Delete for good what `hide` hid; harmless when it was brought back."""
        await self._lane.run(self.store_of(chat_id).erase_hidden, chat_id)

    async def forget_states(self, chat_id: str) -> None:
        """Remove what is kept on disk to open the chat faster."""
        from openchat_local.app.paths import states_dir
        from openchat_local.models.engine.states import forget_chat

        await self._lane.run(forget_chat, states_dir(), chat_id)

    async def chat(self, chat_id: str) -> Chat:
        """The chat as it is on disk now. Raises ChatNotFound."""
        return await self._lane.run(self.store_of(chat_id).chat, chat_id)

    async def change(self, chat_id: str, **fields: Unpack[ChatFields]) -> Chat:
        """Change what a chat is called and held with. Raises ChatNotFound."""
        update = self.store_of(chat_id).update_chat
        chat = await self._lane.run(partial(update, chat_id, **fields))
        if chat_id == self.shown.id:
            self.shown.chat = chat
        return chat

    async def search(self, query: str) -> list[SearchHit]:
        """Titles and messages with every term of the query; "#tag" finds chats by tags."""
        return await self._lane.run(self.store.search, query, limit=FOUND)

    async def reach(self, chat_id: str, message_id: str) -> None:
        """Have the branch shown that a message is on, if it is not. Raises MessageNotFound."""
        branch = await self.branch(chat_id)
        if all(message.id != message_id for message in branch):
            await self._lane.run(self.store_of(chat_id).show_leaf, chat_id, message_id)

    async def recent_prompts(self) -> list[str]:
        """What was asked last, newest first."""
        chat_id = self.shown.id
        store = self.store_of(chat_id)
        prompts = await self._lane.run(store.recent_prompts, chat_id)
        if store is not self.store:
            prompts += await self._lane.run(self.store.recent_prompts, None)
        return prompts

    async def _store_of_message(self, message_id: str) -> ChatStore:
        from openchat_local.app.chats import MessageNotFound

        if self._memory is not None:
            with suppress(MessageNotFound):
                await self._lane.run(self._memory.message, message_id)
                return self._memory
        return self.store

    async def _row(self, shown: OpenChat) -> Chat:
        async with shown.making:
            if shown.chat is None:
                fields = {
                    "system_prompt": self.settings.system_prompt,
                    "model": self.settings.model,
                    "adapter": self._adapter,
                    "template": self.settings.template,
                    "condition": self.settings.condition,
                } | shown.wishes
                if shown.temporary:
                    shown.chat = await self._new_in_memory(fields)
                else:
                    shown.chat = await self._lane.run(partial(self.store.new_chat, **fields))
            return shown.chat

    async def _new_in_memory(self, fields: Mapping[str, Any]) -> Chat:
        """A private one too: the engine keeps no state of it, and no other chat offers its
        prompts."""
        from openchat_local.app.chats import ChatStore

        if self._memory is None:
            self._memory = await self._lane.run(ChatStore.in_memory)
        chat = await self._lane.run(partial(self._memory.new_chat, **fields, private=True))
        self._in_memory.add(chat.id)
        return chat
