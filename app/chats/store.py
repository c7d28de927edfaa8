"""The chat store: every chat, message and reply of this home, in one SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Unpack

from openchat_local.app.chats import orphans, reply_rows, tree, votes, writing
from openchat_local.app.chats import search as searching
from openchat_local.app.chats.backup import backup, restore
from openchat_local.app.chats.database import Database, connect_in_memory
from openchat_local.app.chats.drafts import ChatDraft, insert
from openchat_local.app.chats.errors import translated
from openchat_local.app.chats.instances import Instance, LoneInstance
from openchat_local.app.chats.migrations import migrate
from openchat_local.app.chats.outlines import ChatOutline, Sieve, outlines
from openchat_local.app.chats.records import Chat, ReplyEnd, SearchHit, StoredMessage
from openchat_local.app.chats.votes import Choice, Side, Vote
from openchat_local.app.chats.writing import ChatFields
from openchat_local.models.conversation import Role, SampledIds

DATABASE_NAME = "chats.db"
INSTANCES_NAME = "instances"
STATES_NAME = "states"
IN_MEMORY = Path(":memory:")


class ChatStore:
    """The chats of one home folder. Any thread and several instances may use it at once.

    Every change is on disk when its method returns. Methods raise `ChatStoreError`:
    `ChatNotFound` and `MessageNotFound` for ids that are not (or no longer) there, and
    itself for a full disk, a read-only home, a locked or damaged database.
    """

    def __init__(self, database: Database, instance: Instance) -> None:
        """Use `ChatStore.open`."""
        self._database = database
        self._instance = instance

    @classmethod
    def open(cls, home_dir: Path, given_up: Callable[[], bool] = lambda: False) -> ChatStore:
        """Open or create the chats of a home folder, and bring their schema up to date.

        The folder is made if need be, private to its owner. Replies that a dead
        instance left unfinished are closed as "interrupted", and KV states of chats that
        were deleted or made private meanwhile are removed. `given_up` is asked, in this
        thread, while another instance that is opening them is waited for.

        Raises ChatStoreError.
        """
        path = home_dir / DATABASE_NAME
        with translated(path):
            home_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            instance = Instance(home_dir / INSTANCES_NAME, given_up)
            try:
                # Two instances that create or migrate at once would collide.
                with instance.opening():
                    database = Database(path)
                    try:
                        with database.exclusive() as connection:
                            migrate(connection, path)
                        store = cls(database, instance)
                        store.recover()
                        orphans.remove(database, home_dir / STATES_NAME)
                    except BaseException:
                        database.close()
                        raise
            except BaseException:
                instance.close()
                raise
        return store

    @classmethod
    def in_memory(cls) -> ChatStore:
        """Chats that are nowhere on disk, and gone when this is closed or the process ends."""
        database = Database(IN_MEMORY, connect_in_memory)
        with database.exclusive() as connection:
            migrate(connection, IN_MEMORY)
        return cls(database, LoneInstance())

    def close(self) -> None:
        """Erase what is hidden, close the file and let other instances know; harmless when
        done already."""
        with translated(self.path):
            try:
                if self._database.is_open:
                    self.erase_hidden()
            finally:
                self._database.close()
                self._instance.close()

    @property
    def path(self) -> Path:
        """The database file."""
        return self._database.path

    @property
    def instance_id(self) -> str:
        """The name of this running instance: `StoredMessage.instance` of its replies."""
        return self._instance.id

    # Chats

    def new_chat(
        self,
        *,
        title: str = "",
        system_prompt: str = "",
        model: str | None = None,
        condition: str | None = None,
        template: str | None = None,
        adapter: str | None = None,
        sampling: dict[str, Any] | None = None,
        private: bool = False,
        tags: Sequence[str] = (),
    ) -> Chat:
        """A new, empty chat. Without a title it gets one from its first prompt."""
        with self._database.writing() as connection:
            chat_id = writing.insert_chat(
                connection,
                title=title,
                system_prompt=system_prompt,
                model=model,
                condition=condition,
                template=template,
                adapter=adapter,
                sampling=sampling,
                private=private,
            )
            writing.set_tags(connection, chat_id, tags)
            return tree.chat(connection, chat_id)

    def chat(self, chat_id: str) -> Chat:
        """The chat with this id. Raises ChatNotFound."""
        with self._database.reading() as connection:
            return tree.chat(connection, chat_id)

    def find_chat(self, part: str) -> Chat:
        """The one chat whose id begins or ends with `part` (4 characters or more).

        Ids begin with their time, so it is the end that tells today's chats apart.
        Raises ChatNotFound.
        """
        with self._database.reading() as connection:
            return tree.find_chat(connection, part)

    def chats(self, *, limit: int | None = None, offset: int = 0) -> list[Chat]:
        """Pinned chats first, then those used last."""
        rest = "ORDER BY c.pinned DESC, c.updated_at DESC, c.seq DESC LIMIT ? OFFSET ?"
        with self._database.reading() as connection:
            return tree.chats(connection, rest, -1 if limit is None else limit, offset)

    def latest_chat(self) -> Chat | None:
        """The chat that was used last; one that is only a draft does not count."""
        rest = """
            WHERE EXISTS (SELECT 1 FROM messages WHERE chat_id = c.id)
            ORDER BY c.updated_at DESC, c.seq DESC LIMIT 1
        """
        with self._database.reading() as connection:
            found = tree.chats(connection, rest)
            return found[0] if found else None

    def update_chat(self, chat_id: str, **fields: Unpack[ChatFields]) -> Chat:
        """Change settings of a chat; its place in the list stays. Raises ChatNotFound."""
        with self._database.writing() as connection:
            writing.update_chat(connection, chat_id, dict(fields))
            return tree.chat(connection, chat_id)

    def set_draft(self, chat_id: str, draft: str) -> Chat:
        """Keep a prompt that has not been sent. Raises ChatNotFound."""
        return self.update_chat(chat_id, draft=draft)

    def set_private(self, chat_id: str, private: bool) -> Chat:
        """Raises ChatNotFound."""
        return self.update_chat(chat_id, private=private)

    def set_system_prompt(self, chat_id: str, system_prompt: str) -> Chat:
        """Raises ChatNotFound."""
        return self.update_chat(chat_id, system_prompt=system_prompt)

    def delete_chat(self, chat_id: str) -> str:
        """Delete a chat for good: rows, index entries, free pages and write-ahead log.

        Returns its full id; the caller drops its KV state. Raises ChatNotFound.
        """
        with self._database.writing() as connection:
            tree.chat(connection, chat_id)
            writing.delete_chat(connection, chat_id)
        self._database.scrub()
        self._database.shrink()
        return chat_id

    def hide_chat(self, chat_id: str) -> Chat:
        """Delete a chat in a way that this instance can undo: for everybody it is gone, and
        `erase_hidden` or `close` makes it so for good. Should this instance die, the next to
        open the store does. Raises ChatNotFound.
        """
        with self._database.writing() as connection:
            chat = tree.chat(connection, chat_id)
            writing.hide(connection, chat_id, self._instance.id)
            return chat

    def unhide_chat(self, chat_id: str) -> Chat:
        """Bring back what `hide_chat` deleted. Raises ChatNotFound if it is erased."""
        with self._database.writing() as connection:
            writing.unhide(connection, chat_id, self._instance.id)
            return tree.chat(connection, chat_id)

    def erase_hidden(self, chat_id: str | None = None) -> None:
        """Delete for good what this instance has hidden: one chat, or all."""
        self._erase(lambda hidden, hider: hider == self._instance.id and chat_id in (None, hidden))

    def _erase(self, condemned: Callable[[str, str], bool]) -> None:
        """Delete hidden chats for good, those for which (id, instance) is condemned."""
        with self._database.reading() as connection:
            if not any(condemned(*each) for each in writing.hidden(connection)):
                return
        with self._database.writing() as connection:
            for chat_id, hider in writing.hidden(connection):
                if condemned(chat_id, hider):
                    writing.delete_chat(connection, chat_id)
        self._database.scrub()
        self._database.shrink()

    def delete_if_empty(self, chat_id: str) -> bool:
        """Delete a chat that holds no message and no draft, as it is now on disk: another
        instance may have written in it since it was read. False if it stays or is gone."""
        with self._database.writing() as connection:
            if not writing.is_empty(connection, chat_id):
                return False
            writing.delete_chat(connection, chat_id)
        self._database.scrub()
        self._database.shrink()
        return True

    def add_chats(self, drafts: Sequence[ChatDraft]) -> list[Chat]:
        """Add imported chats, all or none. Raises ChatStoreError."""
        with self._database.writing() as connection:
            ids = [insert(connection, draft) for draft in drafts]
            return [tree.chat(connection, chat_id) for chat_id in ids]

    # Messages

    def add_message(
        self,
        chat_id: str,
        parent_id: str | None,
        role: Role,
        content: str,
        *,
        edited: bool = False,
    ) -> StoredMessage:
        """Add a finished message under `parent_id` (None: at the root); it is shown.

        A sibling of what is there already, never in its place. `edited` marks a reply
        that a person wrote. Raises ChatNotFound, MessageNotFound.
        """
        with self._database.writing() as connection:
            message_id = writing.insert_message(
                connection, chat_id, parent_id, role, content, edited=edited
            )
            return tree.message(connection, message_id)

    def begin_reply(
        self,
        chat_id: str,
        parent_id: str | None,
        *,
        model: str | None,
        adapter: str | None = None,
        condition: str | None = None,
        template: str | None = None,
        sampling: dict[str, Any] | None = None,
    ) -> StoredMessage:
        """An empty reply that this instance is writing; it is shown.

        Raises ChatNotFound, MessageNotFound.
        """
        with self._database.writing() as connection:
            message_id = writing.insert_message(
                connection,
                chat_id,
                parent_id,
                "assistant",
                "",
                model=model,
                adapter=adapter,
                condition=condition,
                template=template,
                sampling=sampling,
                instance=self._instance.id,
            )
            return tree.message(connection, message_id)

    def flush_reply(self, message_id: str, content: str) -> None:
        """Save what has come of a reply so far. Raises MessageNotFound."""
        with self._database.writing() as connection:
            reply_rows.flush(connection, self._instance.id, message_id, content)

    def finish_reply(
        self,
        message_id: str,
        content: str,
        reason: ReplyEnd,
        usage: dict[str, Any] | None = None,
        sampled: SampledIds | None = None,
    ) -> StoredMessage:
        """Close a reply with its whole text, how it ended, and the ids that it was sampled as.
        Raises MessageNotFound."""
        with self._database.writing() as connection:
            return reply_rows.finish(
                connection, self._instance.id, message_id, content, reason, usage, sampled
            )

    def recover(self) -> int:
        """Close the replies of instances that died as "interrupted"; returns how many.

        What they had deleted and could have brought back is erased.
        """
        self._erase(lambda _, hider: not self._instance.is_alive(hider))
        with self._database.reading() as connection:
            if not reply_rows.unfinished(connection, self._instance.is_alive):
                return 0
        with self._database.writing() as connection:
            closed = reply_rows.recover(connection, self._instance.is_alive)
            votes.drop_interrupted(connection)
            return closed

    def message(self, message_id: str) -> StoredMessage:
        """Raises MessageNotFound."""
        with self._database.reading() as connection:
            return tree.message(connection, message_id)

    def messages(self, chat_id: str) -> list[StoredMessage]:
        """All messages of a chat, of every branch, in the order they were made."""
        with self._database.reading() as connection:
            return tree.messages(connection, "WHERE m.chat_id = ? ORDER BY m.seq", chat_id)

    def whole_chat(self, chat_id: str) -> tuple[Chat, list[StoredMessage]]:
        """A chat and all its messages, both as of one moment. Raises ChatNotFound."""
        with self._database.reading() as connection:
            chat = tree.chat(connection, chat_id)
            rest = "WHERE m.chat_id = ? ORDER BY m.seq"
            return chat, tree.messages(connection, rest, chat_id)

    def branch(self, chat_id: str) -> list[StoredMessage]:
        """The branch that is shown, from the root to its leaf. Raises ChatNotFound."""
        with self._database.reading() as connection:
            leaf_id = tree.chat(connection, chat_id).leaf_id
            return tree.path_to(connection, leaf_id) if leaf_id else []

    def path_to(self, message_id: str) -> list[StoredMessage]:
        """From the root to the message itself. Raises MessageNotFound."""
        with self._database.reading() as connection:
            return tree.path_to(connection, message_id)

    def siblings(self, message_id: str) -> list[StoredMessage]:
        """The message and its alternatives, oldest first. Raises MessageNotFound."""
        with self._database.reading() as connection:
            message = tree.message(connection, message_id)
            return tree.children(connection, message.chat_id, message.parent_id)

    def children(self, message_id: str) -> list[StoredMessage]:
        """The messages that answer this one, oldest first. Raises MessageNotFound."""
        with self._database.reading() as connection:
            message = tree.message(connection, message_id)
            return tree.children(connection, message.chat_id, message_id)

    def show_leaf(self, chat_id: str, message_id: str) -> Chat:
        """Show the branch through this message that was last at work.

        Raises ChatNotFound, MessageNotFound.
        """
        with self._database.writing() as connection:
            tree.require_message(connection, chat_id, message_id)
            writing.show(connection, chat_id, tree.newest_leaf(connection, message_id))
            return tree.chat(connection, chat_id)

    def rate(self, message_id: str, rating: int | None, reason: str | None = None) -> StoredMessage:
        """Rate a reply: 1 good, -1 bad, None neither; and why, in a sentence that takes the
        place of the one before. Raises MessageNotFound."""
        kept = (reason or "").strip() if rating is not None else ""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE messages SET rating = ?, rating_reason = ? WHERE id = ?",
                (rating, kept or None, message_id),
            )
            return tree.message(connection, message_id)

    # Blind comparisons

    def begin_pair(
        self,
        chat_id: str,
        prompt_id: str,
        sides: tuple[Side, Side],
        *,
        template: str | None = None,
        sampling: dict[str, Any] | None = None,
    ) -> tuple[Vote, StoredMessage, StoredMessage]:
        """Two empty replies to a prompt that this instance is writing, the first of `sides` and
        its row before the other's, and the pair that they are. The first is shown.

        Raises ChatNotFound, MessageNotFound.
        """
        with self._database.writing() as connection:
            ids = [
                writing.insert_message(
                    connection,
                    chat_id,
                    prompt_id,
                    "assistant",
                    "",
                    model=side.model,
                    adapter=side.adapter,
                    condition=side.condition,
                    template=template,
                    sampling=sampling,
                    instance=self._instance.id,
                )
                for side in sides
            ]
            writing.show(connection, chat_id, ids[0])
            pair = votes.insert(connection, chat_id, prompt_id, sides, (ids[0], ids[1]), None)
            first, second = (tree.message(connection, each) for each in ids)
            return pair, first, second

    def vote(self, vote_id: str, choice: Choice) -> Vote:
        """Say what is thought of a pair, once; the chat goes on with the better reply, or with the
        first. Both bad is a rating of both, where the user gave none.

        Raises AlreadyVoted; ChatStoreError where the pair is gone.
        """
        with self._database.writing() as connection:
            cast = votes.cast(connection, vote_id, choice)
            writing.show(connection, cast.chat_id, tree.newest_leaf(connection, cast.shown))
            if choice == "bad":
                connection.execute(
                    "UPDATE messages SET rating = -1 WHERE id IN (?, ?) AND rating IS NULL",
                    (cast.first_reply_id, cast.second_reply_id),
                )
            return cast

    def drop_pair(self, vote_id: str) -> None:
        """Give up a pair that was not voted on; its replies stay."""
        with self._database.writing() as connection:
            votes.drop(connection, vote_id)

    def pair_of(self, message_id: str) -> Vote | None:
        """The pair that a reply belongs to, None where it does to none."""
        with self._database.reading() as connection:
            return votes.of_reply(connection, message_id)

    def add_vote(
        self,
        chat_id: str,
        prompt_id: str,
        sides: tuple[Side, Side],
        reply_ids: tuple[str, str],
        choice: Choice,
    ) -> Vote:
        """A vote on two replies that there are. Raises ChatNotFound, MessageNotFound."""
        with self._database.writing() as connection:
            return votes.insert(connection, chat_id, prompt_id, sides, reply_ids, choice)

    def votes(self) -> list[Vote]:
        """All votes of chats that are there, private ones too, in the order they were cast."""
        with self._database.reading() as connection:
            return votes.cast_votes(connection)

    # The whole

    def search(
        self, query: str, *, limit: int = 50, include_private: bool = True
    ) -> list[SearchHit]:
        """Titles, then messages, that have every term of the query; newest first.

        Words match as the beginning of a word, regardless of case, width and accents;
        scripts without spaces match anywhere. "#work" asks for chats with a tag that
        begins so, if there is any; no other character of a query is syntax.
        """
        with self._database.reading() as connection:
            return searching.search(connection, query, limit=limit, include_private=include_private)

    def outlines(self, sieve: Sieve) -> list[ChatOutline]:
        """The chats that `sieve` lets through without their words, those used last first."""
        with self._database.reading() as connection:
            return outlines(connection, sieve)

    def recent_prompts(self, chat_id: str | None, *, limit: int = 200) -> list[str]:
        """What was asked last, newest first, each once; of private chats only `chat_id`'s."""
        with self._database.reading() as connection:
            return tree.recent_prompts(connection, chat_id, limit)

    def data_version(self) -> int:
        """A number that changes when another instance has written."""
        with self._database.exclusive() as connection:
            version: int = connection.execute("PRAGMA data_version").fetchone()[0]
            return version

    def backup(self, target: Path) -> None:
        """Write everything to one new file, private to its owner. Raises ChatStoreError."""
        backup(self._database, target)

    def restore(self, source: Path) -> None:
        """Replace everything by a backup, which may be of an older version.

        All or nothing. Raises ChatStoreError, also while another instance is running.
        """
        restore(self._database, source, self._instance.others())
        self.recover()
