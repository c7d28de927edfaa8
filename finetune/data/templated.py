"""Text that is already a prompt, because a chat template was applied to it before."""

from __future__ import annotations

import re
from collections.abc import Iterable

from openchat_local.models.conversation import Message

_HEADERS = re.compile(
    r"<\|im_start\|>\s*(?:system|user|assistant)\b"
    r"|<\|start_header_id\|>|<\|end_of_turn\|>|<start_of_turn>\s*(?:user|model)\b"
    r"|<\|(?:system|user|assistant)\|>|<｜(?:User|Assistant)｜>|\[INST\][\s\S]*\[/INST\]"
)


def is_templated(messages: Iterable[Message]) -> bool:
    """Whether a message holds the role headers of a chat template: it is trained on as the
    text that it is, inside the headers that the model's own template writes."""
    return any(_HEADERS.search(message.content) for message in messages)
