"""A request becomes the token ids of its prompt: what fits of the conversation, rendered once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.context_window import fit
from openchat_local.models.engine.decoding.plain import refuse_foreign
from openchat_local.models.engine.protocol import GenerationRequest, PromptFitted
from openchat_local.models.errors import DoesNotFit, EngineError
from openchat_local.models.template import Rendered, Template


@dataclass(frozen=True, slots=True)
class Prompt:
    """The ids that a reply is decoded behind, under `condition`. `begun` are those of a reply
    that is continued, which they end with; `left_out` turns after the system prompt did
    not fit."""

    ids: list[int]
    begun: list[int]
    left_out: int
    condition: str
    opened: str = ""

    @property
    def fitted(self) -> PromptFitted:
        """What is said of it before the reply."""
        return PromptFitted(len(self.ids), self.left_out)


def fitted_prompt(
    template: Template, request: GenerationRequest, size: int, condition: str
) -> Prompt:
    """The prompt of `request` in a window that holds `size` tokens, under `condition` where it
    names none. Nothing but the template is read: any thread may do it.

    Raises DoesNotFit, EngineError for `prompt_ids` that are no prompt, or TemplateError if the
    conversation cannot be written.
    """
    if request.prompt_ids is not None:
        return _prompt_of(request.prompt_ids, template, size, condition)
    whole = request.conversation
    if whole.condition is None:
        whole = replace(whole, condition=condition)
    if (thinking := _thinking(request)) is not None:
        whole = replace(whole, thinking=thinking)
    tried: dict[int, Rendered] = {}

    def count(conversation: Conversation) -> int:
        rendered = template.render(conversation, continues=request.continues)
        tried[len(conversation.messages)] = rendered
        return len(rendered.ids)

    fitted = fit(whole, size, count, request.overflow, request.sampling.max_tokens)
    rendered = tried[len(fitted.conversation.messages)]
    begun = _last_content(rendered) if request.continues else []
    opened = "" if request.sampling.json_schema is not None else template.opened(rendered)
    condition = fitted.conversation.condition or ""
    return Prompt(rendered.ids, begun, fitted.left_out, condition, opened)


def _thinking(request: GenerationRequest) -> bool | None:
    """A reply obeys its schema from the first token on: there is no room for thoughts."""
    return request.sampling.thinking if request.sampling.json_schema is None else False


def _prompt_of(ids: tuple[int, ...], template: Template, size: int, condition: str) -> Prompt:
    if not ids:
        raise EngineError("The prompt has no token: begin with one.")
    refuse_foreign(ids, template.vocabulary)
    if len(ids) >= size:
        raise DoesNotFit(
            f"The prompt is {len(ids):,} tokens long and the context holds {size:,}: shorten it, "
            "or restart with a larger --context.",
            len(ids),
        )
    return Prompt(list(ids), [], 0, condition)


def _last_content(rendered: Rendered) -> list[int]:
    last = rendered.spans[-1]
    return rendered.ids[last.start : last.end] if last.kind == "content" else []
