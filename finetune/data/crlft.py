"""C-RLFT: the weight of every token, and the loss.

arXiv 2309.11235; the weighting rule is that of imoneoi/openchat
(`ochat/config/conversation_template.py`). The reward is the weight; no exp is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np

from openchat_local.finetune.data.batches import Row
from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.policy import Policy
from openchat_local.models.conversation import Conversation
from openchat_local.models.errors import TemplateError
from openchat_local.models.template import Rendered, Template

Dropped = Literal["no weight", "no weight within the context"]


@dataclass(frozen=True, slots=True)
class Weighed:
    """A conversation as a row, or why it was dropped.

    `tokens` is its length before anything was cut; `truncated` tells that tokens with
    weight were cut off because they lie beyond the context.
    """

    row: Row | None
    tokens: int
    truncated: bool
    dropped: Dropped | None = None


def weigh(example: Example, policy: Policy, template: Template, context: int) -> Weighed:
    """The token ids and weights of a conversation, of at most `context` tokens.

    An assistant turn's weight is on each of its content's tokens and its end of turn: its
    own, or the conversation's reward, or the class's. All else is 0. With the loss
    "per-conversation" the weight is spread evenly over those tokens, so that a long reply
    counts no more than a short one (`seq_level_weight` of the reference: a turn's weight
    over its tokens). Trailing tokens without weight are cut. Raises TemplateError if the
    conversation cannot be written.
    """
    index = policy.index(example.class_name)
    rule = policy.classes[index]
    example, rendered = _written(example, rule.condition, template)
    weights = np.zeros(len(rendered.ids), np.float32)
    # -1 is a default system prompt, and no turn.
    learned = [
        span
        for span in rendered.spans
        if span.kind in ("content", "end_of_turn")
        and span.message >= 0
        and example.messages[span.message].role == "assistant"
    ]
    tokens = Counter[int]()
    for span in learned:
        tokens[span.message] += span.end - span.start
    for span in learned:
        own = example.own_weight(span.message)
        weight = rule.reward if own is None else own
        over = tokens[span.message] if policy.loss == "per-conversation" else 1
        weights[span.start : span.end] = weight / max(over, 1)
    weights[:1] = 0  # nothing precedes it that could predict it
    whole, end = _supervised_end(weights), _supervised_end(weights[:context])
    truncated = whole > context
    if not end:
        reason: Dropped = "no weight within the context" if whole else "no weight"
        return Weighed(None, len(weights), truncated, reason)
    ids = np.array(rendered.ids[:end], np.int32)
    return Weighed(Row(ids, weights[:end], index, example.line), len(rendered.ids), truncated)


def _written(example: Example, condition: str, template: Template) -> tuple[Example, Rendered]:
    """The conversation as the template writes it: with calls of tools as such where it knows them,
    else as text; and the example of the same turns."""
    if example.calling and template.tools is not None:
        calling = Conversation(example.calling, condition, tools=example.tools)
        with suppress(TemplateError):
            return example.as_calls(), template.render(calling, generate=False)
    plain = Conversation(example.messages, condition)
    return example, template.render(plain, generate=False)


def _supervised_end(weights: np.ndarray) -> int:
    supervised = np.flatnonzero(weights)
    return int(supervised[-1]) + 1 if len(supervised) else 0


def step_loss(
    logits: Sequence[np.ndarray], labels: Sequence[np.ndarray], weights: Sequence[np.ndarray]
) -> float:
    """The loss of an optimizer step in nats: Σ w·CE / Σ w over all its micro-batches.

    One entry a micro-batch: logits (..., vocabulary), labels and weights (...). Both sums
    run over the whole step and are divided once: in a mean of means, a micro-batch of one
    class would cancel its reward. This is the definition, in float64; the trainers are
    held to it.
    """
    total = weight = 0.0
    for narrow, label, w in zip(logits, labels, weights, strict=True):
        scores = narrow.astype(np.float64)
        highest = scores.max(-1)
        partition = highest + np.log(np.exp(scores - highest[..., None]).sum(-1))
        right = np.take_along_axis(scores, label[..., None].astype(np.int64), -1)[..., 0]
        total += float((w * (partition - right)).sum(dtype=np.float64))
        weight += float(w.sum(dtype=np.float64))
    return total / weight
