"""The token ids of a request, and of the replies in it as they were sampled."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import GenerationRequest
from openchat_local.models.engine.states import SavedState
from openchat_local.models.template import Rendered, Template

REMEMBERED_REPLIES = 512


@dataclass(frozen=True, slots=True)
class Prompt:
    """`ids` of the whole prompt; `begun` are those at its end that a reply goes on from;
    `replies` are those of the assistant turns before."""

    ids: list[int]
    begun: list[int]
    replies: list[list[int]]


class ReplyMemory:
    """The ids of recent replies as they were sampled, by their text.

    A sampled reply is often not what the tokenizer makes of its text. Rendering the next
    prompt with the sampled ids keeps the KV cache's prefix, and shows the model what it said.
    """

    def __init__(self) -> None:
        self._ids: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    def remember(self, text: str, ids: Sequence[int]) -> None:
        self._ids[text] = tuple(ids)
        self._ids.move_to_end(text)
        while len(self._ids) > REMEMBERED_REPLIES:
            self._ids.popitem(last=False)

    def remember_state(self, saved: SavedState, template: Template) -> None:
        """The replies of a state on disk, so that a prompt renders as it did."""
        for ids in saved.replies:
            decoder = template.content_decoder()
            self.remember("".join(map(decoder.feed, ids)) + decoder.finish(), ids)

    def lookup(self, message: Message) -> Sequence[int] | None:
        return self._ids.get(message.content) if message.role == "assistant" else None


def prompt_of(
    request: GenerationRequest, template: Template, condition: str, memory: ReplyMemory
) -> Prompt:
    """Render `request`, under `condition` where it names none. Raises TemplateError."""
    conversation = request.conversation
    if conversation.condition is None:
        conversation = replace(conversation, condition=condition)
    rendered = template.render(conversation, continues=request.continues, content_ids=memory.lookup)
    replies = _assistant_ids(conversation, rendered)
    begun = replies.pop() if request.continues else []
    return Prompt(rendered.ids, begun, replies)


def _assistant_ids(conversation: Conversation, rendered: Rendered) -> list[list[int]]:
    return [
        list(rendered.ids[span.start : span.end])
        for span in rendered.spans
        if span.kind == "content"
        and span.message >= 0
        and conversation.messages[span.message].role == "assistant"
    ]
