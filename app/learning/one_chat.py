"""One chat as the rows that it teaches."""

from __future__ import annotations

from openchat_local.app.chats.store import ChatStore
from openchat_local.app.learning.feedback import CUT, chat_lessons
from openchat_local.app.learning.rows_file import lines_of
from openchat_local.app.learning.rules import FeedbackRules
from openchat_local.app.learning.selecting import left_out_in_words
from openchat_local.models.errors import OpenChatError


class NothingToLearn(OpenChatError):
    """A chat is private, or has no reply to learn from."""


def training_lines(
    store: ChatStore, chat_id: str, rules: FeedbackRules, *, cut_replies: bool = False
) -> tuple[str, list[str]]:
    """The chat's rows as lines of JSON, and a sentence on each kind of reply that is left out.

    Raises ChatNotFound; NothingToLearn for a private chat and for one that teaches nothing.
    """
    chat, messages = store.whole_chat(chat_id)
    if chat.private:
        raise NothingToLearn(
            "This chat is private, and private chats are never trained on: Markdown and JSON have "
            "all of it."
        )
    found = chat_lessons(chat, messages, rules, cut_replies=cut_replies)
    said = left_out_in_words(found.left_out)
    if not found.lessons:
        advice = "rate replies, or edit one into what it should have said"
        if found.left_out.get(CUT):
            advice += "; `openchat-local history export -f jsonl --cut-replies` has those cut"
        raise NothingToLearn(
            " ".join([f"There is no reply in this chat to learn from: {advice}.", *said])
        )
    return "".join(lines_of(found.lessons)), said
