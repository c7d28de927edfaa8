"""From files to rows on disk: two passes over each, one report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from openchat_local.finetune.crlft import Decision, Policy, Weighed, decide_policy, weigh
from openchat_local.finetune.data.faults import DataError, Fault, Faults, refuse
from openchat_local.finetune.data.formats import Example
from openchat_local.finetune.data.report import DataReport, Tally
from openchat_local.finetune.data.rows import RowStore, RowWriter
from openchat_local.finetune.data.survey import (
    ClassCount,
    Survey,
    read_examples,
    survey,
    template_check,
)
from openchat_local.models.errors import TemplateError
from openchat_local.models.template import Template

TRAIN, VALIDATION = "train", "validation"

Progress = Callable[[int, int], None]  # conversations weighed, and of how many


@dataclass(frozen=True, slots=True)
class DataOptions:
    """What a person may say of their data.

    `rewards` and `conditions` are by class. Validation data is the file `validation`, or
    else about `held_out` of the conversations.
    """

    class_field: str | None = None
    rewards: Mapping[str, float] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)
    skip_bad: bool = False
    validation: Path | None = None
    held_out: float = 0.05


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows to train and to validate on, in memory maps, and the report about them."""

    policy: Policy
    report: DataReport
    train: RowStore
    validation: RowStore


def prepare(
    path: Path,
    options: DataOptions,
    template: Template,
    context: int,
    folder: Path,
    progress: Progress | None = None,
) -> Prepared:
    """Read, check and weigh `path`, and write its rows into `folder`.

    Raises DataError with every problem of the files and of the options, or if nothing is
    left to train on.
    """
    surveys, decision = examine(path, options, template)
    parts = _parts(surveys, options)
    tallies = _write_rows(
        surveys, parts, options, decision.policy, template, context, folder, progress
    )
    report = _report(surveys, parts, tallies, options, template, context)
    if not report.train.conversations:
        dropped = report.train.dropped.items()
        reasons = ", ".join(f"{count:,} have {reason}" for reason, count in dropped)
        raise DataError(
            f"No conversation of {path} is left to train on ({reasons or 'all are held out'}): "
            "give some class or turn a weight above 0, or more data."
        )
    return Prepared(
        decision.policy, report, RowStore(folder / TRAIN), RowStore(folder / VALIDATION)
    )


def examine(path: Path, options: DataOptions, template: Template) -> tuple[list[Survey], Decision]:
    """The first pass over the file, and over the validation file if there is one.

    Raises DataError with every problem of the files and of the options at once.
    """
    check = template_check(template)
    files = [path] if options.validation is None else [path, options.validation]
    surveys = [survey(file, options.class_field, check) for file in files]
    decision = decide_policy(_classes(surveys), template, options.rewards, options.conditions)
    fatal = [found.faults for found in surveys if not (options.skip_bad and found.conversations)]
    refuse(*fatal, settings=decision.faults)
    return surveys, decision


_TRAIN, _VALIDATION, _DUPLICATE = 0, 1, 2


def _parts(surveys: list[Survey], options: DataOptions) -> list[np.ndarray]:
    """What becomes of each conversation of each file, (conversations,) int8."""
    first, *others = surveys
    held_out = first.held_out(0 if others else options.held_out)
    parts = [np.where(held_out, _VALIDATION, _TRAIN)]
    parts += [np.full(other.conversations, _VALIDATION) for other in others]
    return [
        np.where(found.kept(), part, _DUPLICATE).astype(np.int8)
        for found, part in zip(surveys, parts, strict=True)
    ]


def _write_rows(
    surveys: list[Survey],
    parts: list[np.ndarray],
    options: DataOptions,
    policy: Policy,
    template: Template,
    context: int,
    folder: Path,
    progress: Progress | None,
) -> dict[str, Tally]:
    """Weigh and write what is kept; the figures of both splits."""
    tallies = {TRAIN: Tally(policy), VALIDATION: Tally(policy)}
    done, total = 0, sum(int(np.count_nonzero(part != _DUPLICATE)) for part in parts)
    with ExitStack() as stack:
        writers = {name: stack.enter_context(RowWriter(folder / name)) for name in tallies}
        for found, part, own in zip(surveys, parts, (TRAIN, VALIDATION), strict=False):
            tallies[own].duplicates = int(np.count_nonzero(part == _DUPLICATE))
            for example, name in _examples(found, part, options, template):
                done += 1
                if progress is not None:
                    progress(done, total)
                weighed = _weigh(example, policy, template, context, found.faults)
                if weighed is None:
                    continue
                tallies[name].add(example, weighed)
                if weighed.row is not None:
                    writers[name].append(weighed.row)
        if not options.skip_bad:
            refuse(*(found.faults for found in surveys))
    return tallies


def _examples(
    found: Survey, parts: np.ndarray, options: DataOptions, template: Template
) -> Iterator[tuple[Example, str]]:
    """The second pass: every conversation that is kept, and where it belongs."""
    read = read_examples(found.path, options.class_field, template_check(template))
    good = (example for example in read if isinstance(example, Example))
    try:
        for part, example in zip(parts, good, strict=True):
            if part != _DUPLICATE:
                yield example, VALIDATION if part == _VALIDATION else TRAIN
    except ValueError:  # more or fewer than there were
        raise _changed(found.path) from None


def _weigh(
    example: Example, policy: Policy, template: Template, context: int, faults: Faults
) -> Weighed | None:
    try:
        return weigh(example, policy, template, context)
    except KeyError:
        raise _changed(faults.path) from None
    except TemplateError as error:
        faults.add([Fault(example.line, "", "cannot be written", str(error))])
        return None


def _changed(path: Path) -> DataError:
    return DataError(f"{path} changed while it was read; start again.")


def _classes(surveys: list[Survey]) -> dict[str, ClassCount]:
    """The classes of all files together."""
    together: dict[str, ClassCount] = {}
    for found in surveys:
        for name, count in found.classes.items():
            total = together.setdefault(name, ClassCount())
            total.conversations += count.conversations
            total.unweighted += count.unweighted
            total.own_weights += count.own_weights
            total.own_turns += count.own_turns
            for condition, line in count.conditions.items():
                total.conditions.setdefault(condition, line)
    return together


def _report(
    surveys: list[Survey],
    parts: list[np.ndarray],
    tallies: Mapping[str, Tally],
    options: DataOptions,
    template: Template,
    context: int,
) -> DataReport:
    first, *others = surveys
    overlap = sum(
        int(np.count_nonzero(other.also_in(first) & (part != _DUPLICATE)))
        for other, part in zip(others, parts[1:], strict=True)
    )
    formats = sum((found.formats for found in surveys), Counter[str]())
    return DataReport(
        train=tallies[TRAIN].report(str(first.path)),
        validation=tallies[VALIDATION].report(str(options.validation or first.path)),
        formats=dict(formats),
        overlap=overlap,
        bad_lines=sum(found.faults.lines for found in surveys),
        faults=tuple(
            f"{found.path}, {text}" for found in surveys for text in found.faults.listing()
        ),
        context=context,
        template=template.name,
        digests={str(found.path): found.digest for found in surveys},
        templated=sum(found.templated for found in surveys),
    )
