"""From files to rows on disk: two passes over each, one report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openchat_local.finetune.data.crlft import Weighed, weigh
from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.examples import read_examples, template_check
from openchat_local.finetune.data.faults import DataError, Fault, Faults, refuse
from openchat_local.finetune.data.lines import files_of, refuse_unreadable
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.data.policy import Decision, Policy, decide_policy
from openchat_local.finetune.data.remarks import remark_notes
from openchat_local.finetune.data.report import DataReport, Tally
from openchat_local.finetune.data.rows import RowStore, RowWriter
from openchat_local.finetune.data.split import hold_out
from openchat_local.finetune.data.survey import ClassCount, Survey, survey
from openchat_local.finetune.data.taken import split_notes
from openchat_local.models.errors import TemplateError
from openchat_local.models.template import Template

TRAIN, VALIDATION = "train", "validation"
SMALL_BYTES = 2**20  # some fifty milliseconds

Progress = Callable[[int, int], None]  # conversations weighed, and of how many


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
    parts, common = _parts(surveys, options, decision.policy)
    tallies = _write_rows(
        surveys, parts, options, decision.policy, template, context, folder, progress
    )
    remarks = (*decision.notes, *_remarks(surveys, decision.policy, common))
    report = _report(surveys, parts, tallies, options, template, context, remarks, decision.policy)
    if not report.train.conversations:
        raise DataError(
            f"No conversation of {path} is left to train on: "
            + why_nothing(report.train.dropped, report.train.longest_dropped, context)
        )
    return Prepared(
        decision.policy, report, RowStore(folder / TRAIN), RowStore(folder / VALIDATION)
    )


@dataclass(frozen=True, slots=True)
class Conversations:
    """Those of a file as `prepare` would divide them, before they are weighed; `digests` are
    SHA-256 (hex) over the good conversations of each file, `notes` sentences about them."""

    policy: Policy
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    digests: Mapping[str, str]
    notes: tuple[str, ...]


def read_conversations(path: Path, options: DataOptions, template: Template) -> Conversations:
    """The conversations of both splits, in memory.

    Raises DataError with every problem of the files and of the options.
    """
    surveys, decision = examine(path, options, template)
    parts, common = _parts(surveys, options, decision.policy)
    splits: dict[str, list[Example]] = {TRAIN: [], VALIDATION: []}
    for found, part in zip(surveys, parts, strict=True):
        for example, name in _examples(found, part, options, template):
            splits[name].append(example)
    bad = [f"{found.path}, {text}" for found in surveys for text in found.faults.listing()]
    return Conversations(
        decision.policy,
        tuple(splits[TRAIN]),
        tuple(splits[VALIDATION]),
        {str(found.path): found.digest for found in surveys},
        (*_taken(surveys), *decision.notes, *_remarks(surveys, decision.policy, common), *bad),
    )


def why_nothing(dropped: Mapping[str, int], longest: int, context: int) -> str:
    """Why every conversation was dropped, by the reasons' counts, and what to do about each.

    `longest` is in tokens, of those whose weight begins beyond `context`.
    """
    reasons = []
    if count := dropped.get("no weight"):
        reasons.append(f"{count:,} have no weight; give their class or some reply a weight above 0")
    if count := dropped.get("no weight within the context"):
        reasons.append(
            f"{count:,} answer only after the {context:,} tokens that are kept, the longest "
            f"ends at {longest:,}; keep more with --max-length, or shorten them"
        )
    return "; ".join(reasons or ["name a file with more"]) + "."


def examine(path: Path, options: DataOptions, template: Template) -> tuple[list[Survey], Decision]:
    """The first pass over the file, and over the validation file if there is one.

    Raises DataError with every problem of the files and of the options at once.
    """
    check = template_check(template)
    files = [path, *([] if options.validation is None else [options.validation])]
    surveys = [survey(path, options.reading, check)]
    # What a score is worth hangs on the scores of the file that is trained on.
    surveys += [survey(file, surveys[0].reading, check) for file in files[1:]]
    decision = decide_policy(
        _classes(surveys),
        template,
        options.rewards,
        options.conditions,
        options.loss,
        own_headers=options.own_headers,
        places=surveys[0].faults.places,
    )
    fatal = [found.faults for found in surveys if not (options.skip_bad and found.conversations)]
    refuse(*fatal, settings=decision.faults)
    return surveys, decision


def looks_faulty(path: Path, options: DataOptions) -> bool:
    """Whether `examine` has something to say about files so small that to know it takes no
    time: a line that cannot be read, or no conversation at all. Needs no template.

    Raises DataError where a file cannot be read at all.
    """
    for file in [path] if options.validation is None else [path, options.validation]:
        refuse_unreadable(file)
        if sum(part.stat().st_size for part in files_of(file)) <= SMALL_BYTES:
            found = survey(file, options.reading, lambda _: None)
            if not found.conversations or (found.faults and not options.skip_bad):
                return True
    return False


_TRAIN, _VALIDATION, _DUPLICATE = 0, 1, 2


def _parts(
    surveys: list[Survey], options: DataOptions, policy: Policy
) -> tuple[list[np.ndarray], int]:
    """What becomes of each conversation of each file, (conversations,) int8; and how many
    were held out or not by themselves, since too many begin alike."""
    first, *others = surveys
    kept = [found.kept(policy.rewards) for found in surveys]
    held = hold_out(first, kept[0], 0 if others else options.held_out)
    parts = [np.where(held.chosen, _VALIDATION, _TRAIN)]
    parts += [np.full(other.conversations, _VALIDATION) for other in others]
    return [
        np.where(own, part, _DUPLICATE).astype(np.int8)
        for own, part in zip(kept, parts, strict=True)
    ], int(np.count_nonzero(held.common))


def conflict_notes(surveys: list[Survey], policy: Policy) -> Iterator[str]:
    """A sentence a file in which equal conversations are not of one worth."""
    for found in surveys:
        if conflicts := found.conflicts(policy.rewards):
            first, told = conflicts[0], found.faults.places.told
            yield (
                f"{len(conflicts):,} conversations of {found.path.name} occur more than "
                "once with another class or weight; the one worth most stays, such as "
                f"{told(first.kept)} instead of {told(first.left_out)}."
            )


def _taken(surveys: list[Survey]) -> tuple[str, ...]:
    """What the files were taken for."""
    return tuple(sentence for found in surveys for sentence in found.taken)


def _remarks(surveys: list[Survey], policy: Policy, common: int) -> Iterator[str]:
    """What was decided about the data, for a person to know."""
    if len(surveys) == 1:
        yield from split_notes(surveys[0].splits)
    yield from remark_notes(sum((found.remarks for found in surveys), Counter[str]()))
    yield from conflict_notes(surveys, policy)
    system, count = _system_prompt(surveys[0], policy)
    if system:
        of = surveys[0].classes[policy.expert.name].conversations
        yield (
            f"{count:,} of {of:,} {policy.expert.name!r} conversations have one system prompt, "
            f"which the adapter's file will carry: {_beginning(system)!r}."
        )
    if common:
        yield (
            f"{common:,} conversations begin like too many others to be kept on one side: they "
            "are held out one by one, so the validation loss also shows how well their "
            "beginnings were memorised. With a file named by --val it would not."
        )


def _system_prompt(found: Survey, policy: Policy) -> tuple[str, int]:
    """What more than half of the best class's conversations begin with, "" where there is no
    such system prompt; and how many do."""
    if policy.expert.name not in found.classes:
        return "", 0
    own = [
        (count, system)
        for (name, system), count in found.system_prompts.items()
        if name == policy.expert.name
    ]
    count, system = max(own, default=(0, ""))
    most = 2 * count > found.classes[policy.expert.name].conversations
    return (system, count) if most else ("", 0)


def _beginning(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


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
    read = read_examples(found.path, found.reading, template_check(template))
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
    remarks: tuple[str, ...],
    policy: Policy,
) -> DataReport:
    first, *others = surveys
    overlap = sum(
        int(np.count_nonzero(other.also_in(first) & (part != _DUPLICATE)))
        for other, part in zip(others, parts[1:], strict=True)
    )
    formats = sum((found.formats for found in surveys), Counter[str]())
    ignored = sum((found.ignored for found in surveys), Counter[str]())
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
        ignored=dict(ignored.most_common()),
        remarks=remarks,
        system_prompt=_system_prompt(first, policy)[0],
        templated=sum(found.templated for found in surveys),
        taken=_taken(surveys),
    )
