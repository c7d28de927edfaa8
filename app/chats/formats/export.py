"""A chat as Markdown to read, or JSON to keep."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Literal, get_args

from openchat_local.app.chats.endings import ending_in_words
from openchat_local.app.chats.records import Chat, StoredMessage
from openchat_local.app.chats.store import ChatStore
from openchat_local.app.chats.thoughts import divided, thoughts_in_words
from openchat_local.app.chats.who_wrote import who_wrote

ExportFormat = Literal["markdown", "json"]
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
    thoughts: bool = True,
) -> str:
    """The chat as text. Raises ChatNotFound.

    "markdown" is for people: what replies thought is folded in it, or with `thoughts` False
    left out. "json" is the whole chat, every branch and figure, and can
    be imported again; `branches` does not matter to it.
    """
    chat = store.chat(chat_id)
    if format == "json":
        return _json(store, chat)
    chosen = [store.branch(chat_id)] if branches == "shown" else _branches(store.messages(chat_id))
    return _markdown(chat, [branch for branch in chosen if branch], thoughts=thoughts)


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


def _markdown(chat: Chat, branches: Sequence[Sequence[StoredMessage]], *, thoughts: bool) -> str:
    parts = [f"# {' '.join(chat.title.split()) or 'Untitled chat'}"]
    parts.append(f"*{datetime.fromtimestamp(chat.created_at).astimezone():%Y-%m-%d %H:%M %Z}*")
    if chat.system_prompt:
        parts.append(f"## System\n\n{chat.system_prompt}")
    for number, branch in enumerate(branches, 1):
        if len(branches) > 1:
            parts.append(f"---\n\n*Branch {number} of {len(branches)}*")
        for message in branch:
            parts += [f"## {_heading(message)}", *_said(message, thoughts=thoughts)]
    return "\n\n".join(parts) + "\n"


def _said(message: StoredMessage, *, thoughts: bool) -> Iterator[str]:
    """What a message says; before it, folded, what a reply thought."""
    found = divided(message)
    if thoughts and found.thought:
        words = thoughts_in_words(message.usage, closed=found.closed)
        # A blank line ends the HTML: what is between is Markdown again.
        yield f"<details>\n<summary>{words}</summary>"
        yield found.thought
        yield "</details>"
    if found.answer or not found.thought:
        yield found.answer


def _heading(message: StoredMessage) -> str:
    heading = message.role.capitalize()
    if who := who_wrote(message):
        heading += f" ({who.in_words()})"
    rated = {1: "rated good", -1: "rated bad"}.get(message.rating or 0, "")
    if rated and message.rating_reason:
        rated = f"{rated} ({' '.join(message.rating_reason.split())})"
    edited = "edited" if message.edited else ""
    remarks = ", ".join(filter(None, (rated, edited, ending_in_words(message.finish_reason))))
    return f"{heading} – {remarks}" if remarks else heading


def _json(store: ChatStore, chat: Chat) -> str:
    about = asdict(chat)
    del about["message_count"]
    if chat.origin is None:  # an earlier version does not know the field
        del about["origin"]
    messages = []
    for message in store.messages(chat.id):
        record = asdict(message)
        # Which chat it is in goes without saying, who is writing it means nothing outside
        # this home, its siblings follow from the parents, and votes stay here.
        for name in ("chat_id", "instance", "sibling", "siblings", "sampled", "vote"):
            del record[name]
        sampled = message.sampled
        if message.rating_reason is None:
            del record["rating_reason"]
        record["token_ids"] = None if sampled is None else list(sampled.ids)
        if sampled is not None and sampled.vocabulary is not None:
            record["vocabulary"] = sampled.vocabulary
        messages.append(record)
    document = {"format": FORMAT, "version": VERSION, "chat": about, "messages": messages}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"
