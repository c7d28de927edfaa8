"""Which answers of a file are measured, and under which conditions: token rows on disk."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from openchat_local.finetune.data.batches import Row
from openchat_local.finetune.data.crlft import weigh
from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.examples import read_examples, template_check
from openchat_local.finetune.data.faults import DataError, refuse
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.data.policy import Decision, Policy, decide_policy
from openchat_local.finetune.data.prepare import conflict_notes, why_nothing
from openchat_local.finetune.data.remarks import remark_notes
from openchat_local.finetune.data.report import ignored_notes
from openchat_local.finetune.data.rows import RowStore, RowWriter
from openchat_local.finetune.data.survey import Survey, survey
from openchat_local.models.library.adapter_file import AdapterCard, TrainedClass
from openchat_local.models.template import Template

_ENDLESS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Answers:
    """The conversations of a file that are measured, the same ones under every condition.

    `rows` holds them by condition, in file order; what has weight in a row is judged. `classes`
    (conversations,) are indices into `policy.classes`, best first. `digests` tell by condition
    which rows are equal. `tokens` (conversations,), by condition, are those that are judged.
    `notes` are sentences on all that is left out, or not whole. `data` is the file's digest.
    """

    policy: Policy
    rows: Mapping[str, RowStore]
    classes: np.ndarray
    digests: Mapping[str, Sequence[str]]
    tokens: Mapping[str, np.ndarray]
    notes: tuple[str, ...]
    data: str

    @property
    def conditions(self) -> tuple[str, ...]:
        """Under which the answers are measured: that of the best class first."""
        return tuple(self.rows)


@dataclass(slots=True)
class _LeftOut:
    """What is not measured: counts by reason; lengths in tokens."""

    dropped: Counter[str] = field(default_factory=Counter)
    longest_dropped: int = 0
    too_long: int = 0
    longest: int = 0
    truncated: int = 0


def read_answers(
    path: Path,
    options: DataOptions,
    template: Template,
    cards: Sequence[AdapterCard],
    folder: Path,
    *,
    context: int,
    max_length: int | None = None,
    limit: int | None = None,
    also: Sequence[str] = (),
) -> Answers:
    """The answers in `path` as rows in `folder`, each under the condition of each class and of
    the classes that the adapters with these `cards` were trained on, and under those of `also`;
    at most `limit` conversations of each class, the first.

    A conversation that is longer than `context` tokens under any condition is left out, and
    counted; `max_length` cuts it there instead. Raises DataError, also if nothing is left.
    """
    found = survey(path, options.reading, template_check(template))
    decision = policy_of(found, options, template, cards)
    policy = decision.policy
    conditions = tuple(dict.fromkeys([*conditions_of(policy, options, cards), *also]))
    keep = context if max_length is None else min(max_length, context)
    left_out = _LeftOut()
    classes: list[int] = []
    digests: dict[str, list[str]] = {condition: [] for condition in conditions}
    tokens: dict[str, list[int]] = {condition: [] for condition in conditions}
    counts = [0] * len(policy.classes)
    whole = keep if max_length is not None else _ENDLESS
    folders = {condition: folder / str(i) for i, condition in enumerate(conditions)}
    with ExitStack() as stack:
        writers = {
            condition: stack.enter_context(RowWriter(where)) for condition, where in folders.items()
        }
        for example in _kept(found, options, policy, template):
            index = policy.index(example.class_name)
            if limit is not None and counts[index] >= limit:
                continue
            rows = _under_each(example, policy, conditions, template, whole, left_out)
            if rows is None:
                continue
            if (length := max(len(row.ids) for row in rows)) > keep:
                left_out.too_long += 1
                left_out.longest = max(left_out.longest, length)
                continue
            for condition, row in zip(conditions, rows, strict=True):
                # Numbered by conversation, not by class: so its sums come back for each.
                writers[condition].append(replace(row, class_index=len(classes)))
                digests[condition].append(digest_of_row(row))
                tokens[condition].append(int(np.count_nonzero(row.weights)))
            counts[index] += 1
            classes.append(index)
    if not classes:
        reasons = _why_nothing(left_out, keep)
        bad = found.faults.listing()  # which --skip-bad left out
        raise DataError(f"Nothing of {path} is left to measure: {reasons}", bad)
    notes = (*found.taken, *decision.notes, *_notes(found, policy, left_out, counts, keep))
    return Answers(
        policy,
        {condition: RowStore(where) for condition, where in folders.items()},
        np.array(classes, np.int64),
        digests,
        {condition: np.array(numbers, np.int64) for condition, numbers in tokens.items()},
        notes,
        found.digest,
    )


def policy_of(
    found: Survey, options: DataOptions, template: Template, cards: Sequence[AdapterCard]
) -> Decision:
    """The classes of a file: as the options say, else as the adapter was trained that knows the
    most of them and tells the most of these apart, else by name.

    Raises DataError with every problem of the file and of the options.
    """
    trained = [
        {rule.name: rule for rule in card.classes if rule.name in found.classes} for card in cards
    ]
    known = max(trained, key=_told_apart, default={})
    decision = decide_policy(
        found.classes,
        template,
        {name: rule.reward for name, rule in known.items()} | dict(options.rewards),
        {name: rule.condition for name, rule in known.items()} | dict(options.conditions),
        places=found.faults.places,
    )
    fatal = () if options.skip_bad and found.conversations else (found.faults,)
    refuse(*fatal, settings=decision.faults, done="measured")
    return decision


def _told_apart(trained: Mapping[str, TrainedClass]) -> tuple[int, int]:
    """How many classes an adapter knows, and how many it knows to be different."""
    return len(trained), len({(rule.condition, rule.reward) for rule in trained.values()})


def conditions_of(
    policy: Policy, options: DataOptions, cards: Sequence[AdapterCard]
) -> tuple[str, ...]:
    """The condition of every class, best first; also of what else the adapters were trained on,
    unless the options say another for that class."""
    own = [rule.condition for rule in policy.classes]
    others = [
        rule.condition
        for card in cards
        for rule in card.classes
        if rule.name not in options.conditions
    ]
    return tuple(dict.fromkeys([*own, *others]))


def digest_of_row(row: Row) -> str:
    """Tells rows of other tokens, or of which other tokens are judged, apart (32 digits)."""
    digest = hashlib.blake2b(row.ids.astype("<i4").tobytes(), digest_size=16)
    digest.update(np.packbits(row.weights > 0).tobytes())
    return digest.hexdigest()


def _kept(
    found: Survey, options: DataOptions, policy: Policy, template: Template
) -> Iterator[Example]:
    """The second pass: every conversation that is no other's duplicate."""
    read = read_examples(found.path, found.reading, template_check(template))
    good = (example for example in read if isinstance(example, Example))
    try:
        for example, kept in zip(good, found.kept(policy.rewards), strict=True):
            if kept:
                yield example
    except ValueError:  # more or fewer than there were
        raise DataError(f"{found.path} changed while it was read; start again.") from None


def _under_each(
    example: Example,
    policy: Policy,
    conditions: Sequence[str],
    template: Template,
    whole: int,
    left_out: _LeftOut,
) -> list[Row] | None:
    """The conversation under each condition, what is judged with weight 1; None if nothing is."""
    rows, truncated = [], False
    for condition in conditions:
        # A reward of 0 or 0.1 says how much to learn from an answer, not how to judge it.
        rules = tuple(replace(rule, condition=condition, reward=1.0) for rule in policy.classes)
        weighed = weigh(example, Policy(rules), template, whole)
        row = weighed.row
        if row is None:
            left_out.dropped[str(weighed.dropped)] += 1
            if weighed.truncated:
                left_out.longest_dropped = max(left_out.longest_dropped, weighed.tokens)
            return None
        truncated |= weighed.truncated
        judged = (row.weights > 0).astype(np.float32)
        rows.append(Row(row.ids, judged, row.class_index, row.line))
    left_out.truncated += truncated
    return rows


def _why_nothing(left_out: _LeftOut, context: int) -> str:
    if not left_out.too_long:
        return why_nothing(left_out.dropped, left_out.longest_dropped, context)
    others = left_out.dropped.total()
    return (
        f"{left_out.too_long:,} are longer than the context of {context:,} tokens, the longest "
        f"has {left_out.longest:,}{f', and {others:,} have no weight' if others else ''}; cut "
        "them with --max-length, or shorten them."
    )


def _notes(
    found: Survey, policy: Policy, left_out: _LeftOut, counts: Sequence[int], context: int
) -> Iterator[str]:
    """What of the file is not measured, or not whole."""
    yield from remark_notes(found.remarks)
    yield from conflict_notes([found], policy)
    double = found.conversations - int(np.count_nonzero(found.kept(policy.rewards)))
    told = {
        "duplicates left out": double,
        f"cut after {context:,} tokens": left_out.truncated,
        f"left out, longer than the context of {context:,} tokens": left_out.too_long,
        **{f"dropped, {reason}": count for reason, count in left_out.dropped.items()},
    }
    if said := [f"{name} {count:,}" for name, count in told.items() if count]:
        yield f"Of {found.conversations:,} conversations: {', '.join(said)}."
    for rule, count in zip(policy.classes, counts, strict=True):
        if not count:
            yield f"No answer of the class {rule.name!r} is left to measure."
    yield from ignored_notes(found.ignored)
    if found.faults.lines:
        yield f"Bad lines, left out: {found.faults.lines:,}."
        yield from found.faults.listing()
