"""Open WebUI's exported feedback: ratings, each with its chat as it was when it was rated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from openchat_local.app.chats.drafts import ChatDraft
from openchat_local.app.chats.formats import findings as found
from openchat_local.app.chats.formats.checks import at
from openchat_local.app.chats.formats.findings import Findings
from openchat_local.app.chats.formats.open_webui import (
    draft_of,
    messages_of,
    nodes_of,
    rate,
    verdict_of,
)
from openchat_local.app.chats.formats.tree import Node, seconds, text_or_none


def is_feedback(value: Any) -> bool:
    return isinstance(value, dict) and {"type", "data", "meta"} <= value.keys()


def feedback_chats(
    feedbacks: Iterable[tuple[str, Mapping[str, Any]]],
) -> Iterator[tuple[ChatDraft | None, Findings]]:
    """The chats that feedbacks, each with its place in the file, are about, and what came to
    light in them: one chat for all the feedbacks of it."""
    of_chat: dict[str, list[_Feedback]] = {}
    for place, value in feedbacks:
        feedback = _Feedback(place, value)
        of_chat.setdefault(feedback.chat_id or place, []).append(feedback)
    for about_one in of_chat.values():
        findings = Findings()
        # What was exported last is first in the file; of the same time the sort leaves it so.
        draft = _chat(sorted(about_one, key=lambda each: -each.time), findings)
        yield draft, findings


class _Feedback:
    """A feedback, where it is in the file, and what of it matters here."""

    def __init__(self, place: str, value: Mapping[str, Any]) -> None:
        self.place = place
        self.is_rating = value.get("type") == "rating"
        self.data, meta = _table(value, "data"), _table(value, "meta")
        self.chat = _table(_table(value, "snapshot"), "chat")
        self.chat_id = text_or_none(meta.get("chat_id")) or text_or_none(self.chat.get("id"))
        self.message_id = text_or_none(meta.get("message_id"))
        time = seconds(value.get("updated_at"))
        self.time = (seconds(value.get("created_at")) or 0.0) if time is None else time


def _chat(feedbacks: Sequence[_Feedback], findings: Findings) -> ChatDraft | None:
    """The chat of feedbacks, newest first: as the newest has it, and what only the older ones
    still have beside it."""
    with_chat = [each for each in feedbacks if messages_of(each.chat)]
    if not with_chat:
        for each in feedbacks:
            findings.note(found.NO_SNAPSHOT, each.place)
        return None
    nodes: dict[str, Node] = {}
    for each in with_chat:
        unread = {
            name: message for name, message in messages_of(each.chat).items() if name not in nodes
        }
        nodes |= nodes_of(_place(each), unread, findings)
    for each in reversed(feedbacks):
        _rate(nodes, each, findings)
    newest = with_chat[0]
    tags = [tag for each in feedbacks for tag in _listed(each.data.get("tags"))]
    draft = draft_of(_place(newest), newest.chat, nodes, findings, tags)
    if not draft.messages and not findings.faults:
        findings.note(found.EMPTY, newest.place)
        return None
    return draft


def _rate(nodes: Mapping[str, Node], feedback: _Feedback, findings: Findings) -> None:
    verdict = verdict_of(feedback.data) if feedback.is_rating else None
    rated = nodes.get(feedback.message_id or "")
    if verdict is None:
        findings.note(found.NO_VERDICT, feedback.place)
    elif rated is None or rated.role != "assistant":
        findings.note(found.NO_REPLY, feedback.place)
    else:
        rate(nodes, feedback.message_id or "", verdict)


def _place(feedback: _Feedback) -> str:
    return at(feedback.place, "snapshot.chat")


def _table(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, dict) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
