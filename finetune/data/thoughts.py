"""What replies think before they answer, left out of what is learned."""

from __future__ import annotations

from dataclasses import replace

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.remarks import THOUGHTS
from openchat_local.models.conversation import Message
from openchat_local.models.thoughts import USUAL, divide


def without_thoughts(example: Example) -> Example:
    """The same without the thoughts that replies open with, between the usual marks; one that
    is nothing else is not learned."""
    turns = [
        _answer(message, weight)
        for message, weight in zip(example.messages, example.weights, strict=True)
    ]
    messages = tuple(message for message, _ in turns)
    if messages == example.messages:
        return example
    weights = tuple(weight for _, weight in turns)
    return replace(
        example, messages=messages, weights=weights, remarks=(*example.remarks, THOUGHTS)
    )


def _answer(message: Message, weight: float | None) -> tuple[Message, float | None]:
    if message.role != "assistant" or USUAL.opens not in message.content:
        return message, weight
    found = divide(message.content, USUAL)
    if found.thought is None:
        return message, weight
    return replace(message, content=found.answer), weight if found.answer.strip() else 0.0
