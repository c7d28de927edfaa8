"""The conversations of a file, one after the other, as a template can write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.faults import Fault
from openchat_local.finetune.data.formats import columns_read, read_row
from openchat_local.finetune.data.line import Line
from openchat_local.finetune.data.lines import read_lines
from openchat_local.finetune.data.reading import Reading
from openchat_local.finetune.data.remarks import OPENING_LEFT_OUT, OPENS
from openchat_local.finetune.data.shapes.trees import gathered
from openchat_local.finetune.data.thoughts import without_thoughts
from openchat_local.models.conversation import Conversation, Message, Role
from openchat_local.models.errors import TemplateError
from openchat_local.models.template import Template

Check = Callable[[Example], Fault | None]


def with_span(path: Path, reading: Reading, check: Check) -> Reading:
    """The same, with the lowest and the highest score of the file, where rewards hang on them."""
    if reading.reward_field is None or not reading.rewards.needs_range or reading.span is not None:
        return reading
    lowest, highest = math.inf, -math.inf
    for found in read_examples(path, reading, check):
        if isinstance(found, Example) and found.score is not None:
            lowest, highest = min(lowest, found.score), max(highest, found.score)
    return replace(reading, span=(lowest, highest)) if lowest <= highest else reading


def read_examples(path: Path, reading: Reading, check: Check) -> Iterator[Example | list[Fault]]:
    """Every conversation of the file in order, or the faults of its row."""
    for row in read_rows(path, reading, check):
        if isinstance(row, list):
            yield row
        else:
            yield from row[1]


def read_rows(
    path: Path, reading: Reading, check: Check
) -> Iterator[tuple[Line, tuple[Example, ...]] | list[Fault]]:
    """Every row of the file in order with the conversations in it, or its faults."""
    for line in gathered(read_lines(path, columns_read(reading))):
        if isinstance(line, Fault):
            yield [line]
            continue
        found = read_row(line, reading)
        if isinstance(found, list):
            yield found
            continue
        if not reading.thinking:
            found = tuple(map(without_thoughts, found))
        fitting = [_fitting(example, check) for example in found]
        faults = [fault for fault in fitting if isinstance(fault, Fault)]
        yield faults or (line, tuple(one for one in fitting if isinstance(one, Example)))


def _fitting(example: Example, check: Check) -> Example | Fault:
    """The example as it can be written: an opening of the model that is context alone is left
    out where a template has no place for it."""
    fault = check(example)
    if fault is None:
        return example
    if OPENS in example.remarks:
        bare = without_opening(example)
        if check(bare) is None:
            return bare
    return fault


def without_opening(example: Example) -> Example:
    """The same without what the model says before it is asked anything."""
    roles = [message.role for message in example.messages]
    first = roles.index("user")
    kept = [place for place, role in enumerate(roles) if place >= first or role != "assistant"]
    remarks = (*(key for key in example.remarks if key != OPENS), OPENING_LEFT_OUT)
    return replace(
        example,
        messages=tuple(example.messages[place] for place in kept),
        weights=tuple(example.weights[place] for place in kept),
        remarks=remarks,
        calling=(),
        calling_weights=(),
    )


def template_check(template: Template) -> Check:
    """Finds conversations whose order of turns `template` cannot write."""

    @lru_cache(maxsize=4096)
    def refusal(roles: tuple[Role, ...]) -> str | None:
        try:
            template.render(Conversation(tuple(Message(role, "x") for role in roles)))
        except TemplateError as error:
            return str(error)
        return None

    def check(example: Example) -> Fault | None:
        reason = refusal(tuple(message.role for message in example.messages))
        return Fault(example.line, "", "cannot be written", reason) if reason else None

    return check
