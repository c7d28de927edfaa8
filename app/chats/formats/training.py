"""Branches of a chat as lines to train on: OpenAI's messages, with what ratings say of them.

A conversation is trained as a whole of one class. So a branch with good and bad replies
becomes a line for each of the two, cut after the last reply of its class; the replies that are
not of the class are context.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

from openchat_local.app.chats.records import StoredMessage

Verdict = Literal["good", "bad"]
_FIGURES = ("rating", "edited", "finish_reason", "model", "adapter", "condition")


def training_lines(
    system_prompt: str, branches: Sequence[Sequence[StoredMessage]], *, cut_replies: bool = False
) -> str:
    """Lines of JSON; empty where there is no reply to learn from.

    Where no reply of these branches is rated or edited, every whole reply is to be learned, and
    a line has no class. Where one is, those are: a reply that was liked, or written by a person,
    is of the class "good", one that was not liked "bad". Replies that were cut, in whichever
    way, are context unless `cut_replies`.
    """
    judged = any(_verdict(message) for branch in branches for message in branch)
    lines: dict[str, None] = {}
    for branch in branches:
        for verdict in ("good", "bad") if judged else (None,):
            line = _line(system_prompt, branch, verdict, cut_replies)
            if line:
                lines.setdefault(line)  # two branches may be one up to the last reply that counts
    return "".join(f"{line}\n" for line in lines)


def cut_replies_in(branches: Sequence[Sequence[StoredMessage]]) -> int:
    """How many replies of these branches have words and were cut."""
    return len(
        {
            message.id
            for branch in branches
            for message in branch
            if message.role == "assistant" and message.content and not _is_whole(message)
        }
    )


def _line(
    system_prompt: str,
    branch: Sequence[StoredMessage],
    verdict: Verdict | None,
    cut_replies: bool,
) -> str:
    learned = [
        message.role == "assistant"
        and bool(message.content.strip())
        and (cut_replies or _is_whole(message))
        and _verdict(message) == verdict
        for message in branch
    ]
    if not any(learned):
        return ""
    end = len(learned) - learned[::-1].index(True)
    turns: list[dict[str, Any]] = []
    if system_prompt:
        turns.append({"role": "system", "content": system_prompt})
    turns += _turns(branch[:end], learned)
    row: dict[str, Any] = {"messages": turns}
    if verdict:
        row["class"] = verdict
    return json.dumps(row, ensure_ascii=False)


def _turns(branch: Sequence[StoredMessage], learned: Sequence[bool]) -> Iterator[dict[str, Any]]:
    """The turns of a branch; a reply without a word is none, and what was asked on either side
    of it is one turn, as the model got it."""
    turns = []
    for message, counts in zip(branch, learned, strict=False):
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.role == "assistant":
            if not message.content.strip():
                continue
            figures = {name: getattr(message, name) for name in _FIGURES}
            turn |= {name: value for name, value in figures.items() if value not in (None, False)}
            if not counts:
                turn["weight"] = 0
        turns.append(turn)
    for turn, following in pairwise([*turns, {}]):
        if turn["role"] == following.get("role") == "user":
            following["content"] = f"{turn['content']}\n\n{following['content']}"
        else:
            yield turn


def _verdict(message: StoredMessage) -> Verdict | None:
    if message.role != "assistant":
        return None
    if message.rating is not None:
        return "good" if message.rating > 0 else "bad"
    return "good" if message.edited else None


def _is_whole(message: StoredMessage) -> bool:
    return message.finish_reason == "stop"
