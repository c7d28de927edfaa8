"""A chat as Markdown to read, JSON to keep, or JSONL to train on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Literal, get_args

from openchat_local.app.chats.endings import ending_in_words
from openchat_local.app.chats.errors import ChatStoreError
from openchat_local.app.chats.formats.training import cut_replies_in, training_lines
from openchat_local.app.chats.records import Chat, StoredMessage
from openchat_local.app.chats.store import ChatStore
from openchat_local.app.chats.who_wrote import who_wrote

ExportFormat = Literal["markdown", "json", "jsonl"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
Branches = Literal["shown", "all"]
BRANCHES: tuple[Branches, ...] = get_args(Branches)

# How our own JSON names itself, and the version that this program writes and reads.
FORMAT = "openchat-local chat"
VERSION = 1


def export_chat(
    store: ChatStore,
    chat_id: str,
    format: ExportFormat,
    branches: Branches = "shown",
    *,
    cut_replies: bool = False,
) -> str:
    """The chat as text. Raises ChatNotFound; ChatStoreError for a chat without a reply that
    could be trained on.

    "markdown" is for people. "json" is the whole chat, every branch and figure, and can
    be imported again. "jsonl" is OpenAI's messages to train on, as `training_lines` says; with
    `cut_replies` also replies that ended before their end. `branches` does not matter to "json".
    """
    chat = store.chat(chat_id)
    if format == "json":
        return _json(store, chat)
    chosen = _chosen(store, chat_id, branches)
    if format == "markdown":
        return _markdown(chat, chosen)
    lines = training_lines(chat.system_prompt, chosen, cut_replies=cut_replies)
    if not lines:
        raise ChatStoreError(_nothing_to_learn(cut_replies_in(chosen)))
    return lines


def left_out(store: ChatStore, chat_id: str, branches: Branches = "shown") -> int:
    """How many replies "jsonl" has as context alone, or not at all, since they were cut."""
    return cut_replies_in(_chosen(store, chat_id, branches))


def _chosen(store: ChatStore, chat_id: str, branches: Branches) -> list[list[StoredMessage]]:
    chosen = [store.branch(chat_id)] if branches == "shown" else _branches(store.messages(chat_id))
    return [branch for branch in chosen if branch]


def _nothing_to_learn(cut: int) -> str:
    sentence = "There is no whole reply in this chat, so there is nothing to train on"
    if not cut:
        return f"{sentence}; Markdown and JSON have all of it."
    return f"{sentence}; `openchat-local history export -f jsonl --cut-replies` has those cut."


def _branches(messages: Sequence[StoredMessage]) -> list[list[StoredMessage]]:
    """Every path from a root to a leaf, by the age of the leaf."""
    by_id = {message.id: message for message in messages}
    parents = {message.parent_id for message in messages}
    paths = []
    for leaf in (message for message in messages if message.id not in parents):
        path = [leaf]
        while (parent_id := path[-1].parent_id) is not None:
            path.append(by_id[parent_id])
        paths.append(path[::-1])
    return paths


def _markdown(chat: Chat, branches: Sequence[Sequence[StoredMessage]]) -> str:
    parts = [f"# {' '.join(chat.title.split()) or 'Untitled chat'}"]
    parts.append(f"*{datetime.fromtimestamp(chat.created_at).astimezone():%Y-%m-%d %H:%M %Z}*")
    if chat.system_prompt:
        parts.append(f"## System\n\n{chat.system_prompt}")
    for number, branch in enumerate(branches, 1):
        if len(branches) > 1:
            parts.append(f"---\n\n*Branch {number} of {len(branches)}*")
        parts += [f"## {_heading(message)}\n\n{message.content}" for message in branch]
    return "\n\n".join(parts) + "\n"


def _heading(message: StoredMessage) -> str:
    heading = message.role.capitalize()
    if who := who_wrote(message):
        heading += f" ({who.in_words()})"
    rated = {1: "rated good", -1: "rated bad"}.get(message.rating or 0, "")
    edited = "edited" if message.edited else ""
    remarks = ", ".join(filter(None, (rated, edited, ending_in_words(message.finish_reason))))
    return f"{heading} – {remarks}" if remarks else heading


def _json(store: ChatStore, chat: Chat) -> str:
    about = asdict(chat)
    del about["message_count"]
    messages = []
    for message in store.messages(chat.id):
        record = asdict(message)
        # Which chat it is in goes without saying, who is writing it means nothing outside
        # this home, its siblings follow from the parents, and votes stay here.
        for name in ("chat_id", "instance", "sibling", "siblings", "sampled", "vote"):
            del record[name]
        sampled = message.sampled
        record["token_ids"] = None if sampled is None else list(sampled.ids)
        if sampled is not None and sampled.vocabulary is not None:
            record["vocabulary"] = sampled.vocabulary
        messages.append(record)
    document = {"format": FORMAT, "version": VERSION, "chat": about, "messages": messages}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"
