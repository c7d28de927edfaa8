"""A few conversations as they will be trained on, for a person to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from openchat_local.finetune.data.crlft import Weighed, weigh
from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.examples import read_examples, template_check
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.data.policy import ClassRule, Decision
from openchat_local.finetune.data.prepare import conflict_notes, examine
from openchat_local.finetune.data.remarks import remark_notes
from openchat_local.finetune.data.report import ignored_notes, score_notes
from openchat_local.finetune.data.survey import Survey
from openchat_local.finetune.data.taken import split_notes
from openchat_local.models.template import Template


class Preview(NamedTuple):
    """A conversation, its class and its row. `highest` is what the best class is worth, to
    compare weights with, `place` where it stands."""

    example: Example
    rule: ClassRule
    weighed: Weighed
    highest: float
    place: str


def preview(
    path: Path,
    options: DataOptions,
    template: Template,
    context: int,
    count: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Preview]:
    """`count` conversations of the file: the first of each class, and then the next.

    `tell` gets a sentence on everything that is not read, or not as it is written. Raises
    DataError with every problem of the file and of the options.
    """
    surveys, decision = examine(path, options, template)
    for note in _notes(surveys, decision):
        tell(note)
    wanted = {rule.name for rule in decision.policy.classes[:count]}
    spare = count - len(wanted)
    for example in read_examples(path, surveys[0].reading, template_check(template)):
        if not isinstance(example, Example):
            continue
        if example.class_name in wanted:
            wanted.remove(example.class_name)
        elif spare:
            spare -= 1
        else:
            continue
        weighed = weigh(example, decision.policy, template, context)
        rule = decision.policy.classes[decision.policy.index(example.class_name)]
        place = surveys[0].faults.places.told(example.line)
        yield Preview(example, rule, weighed, decision.policy.expert.reward, place)
        if not wanted and not spare:
            return


def _notes(surveys: list[Survey], decision: Decision) -> Iterator[str]:
    for found in surveys:
        yield from found.taken
        yield from split_notes(found.splits if len(surveys) == 1 else ())
        yield from remark_notes(found.remarks)
    yield from decision.notes
    yield from conflict_notes(surveys, decision.policy)
    for found in surveys:
        yield from ignored_notes(found.ignored)
        if decision.policy.plain_sft:
            yield from score_notes(found.ignored)
        yield from (f"{found.path}, left out: {text}" for text in found.faults.listing())
