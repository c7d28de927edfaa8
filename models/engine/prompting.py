"""A request becomes the token ids of its prompt: what fits of the conversation, rendered once."""

from __future__ import annotations

from dataclasses import dataclass

from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.context_window import fit
from openchat_local.models.engine.protocol import GenerationRequest, PromptFitted
from openchat_local.models.template import Rendered, Template


@dataclass(frozen=True, slots=True)
class Prompt:
    """The ids that a reply is decoded behind. `begun` are those of a reply that is gone on
    from, which they end with; `left_out` turns after the system prompt did not fit."""

    ids: list[int]
    begun: list[int]
    left_out: int

    @property
    def fitted(self) -> PromptFitted:
        """What is said of it before the reply."""
        return PromptFitted(len(self.ids), self.left_out)


def fitted_prompt(template: Template, request: GenerationRequest, size: int) -> Prompt:
    """The prompt of `request` in a window that holds `size` tokens.

    Raises DoesNotFit, or TemplateError if the conversation cannot be written.
    """
    tried: dict[int, Rendered] = {}

    def count(conversation: Conversation) -> int:
        rendered = template.render(conversation, continues=request.continues)
        tried[len(conversation.messages)] = rendered
        return len(rendered.ids)

    reply_tokens = request.sampling.max_tokens
    fitted = fit(request.conversation, size, count, request.overflow, reply_tokens)
    rendered = tried[len(fitted.conversation.messages)]
    begun = _last_content(rendered) if request.continues else []
    return Prompt(rendered.ids, begun, fitted.left_out)


def _last_content(rendered: Rendered) -> list[int]:
    last = rendered.spans[-1]
    return rendered.ids[last.start : last.end] if last.kind == "content" else []
