"""What an adapter changed: the loss of held-out answers, per class and condition."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from openchat_local.finetune.adapter.lora import LoraWeights
from openchat_local.finetune.backends.trainer import Trainer
from openchat_local.finetune.data.batches import Row, build_batch
from openchat_local.finetune.data.crlft import weigh
from openchat_local.finetune.data.epoch import Layout, plan_epoch
from openchat_local.finetune.data.faults import DataError, refuse
from openchat_local.finetune.data.formats import Example
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.data.policy import ClassRule, Decision, Policy, decide_policy
from openchat_local.finetune.data.prepare import conflict_notes, why_nothing
from openchat_local.finetune.data.report import ignored_notes
from openchat_local.finetune.data.rows import RowStore, RowWriter
from openchat_local.finetune.data.survey import Survey, read_examples, survey, template_check
from openchat_local.models.library.adapter_file import AdapterCard
from openchat_local.models.template import Template

Progress = Callable[[float], None]  # the share that is done


@dataclass(frozen=True, slots=True)
class Cell:
    """The answers of one class under one condition, without and with the adapter.

    Losses are in nats a token over all supervised tokens, every token counting alike;
    `standard_error` is that of their difference, from the spread between conversations, 0
    for fewer than two.
    """

    class_name: str
    condition: str
    conversations: int
    tokens: int
    base_loss: float
    adapter_loss: float | None
    standard_error: float

    @property
    def change(self) -> float | None:
        """Adapter minus base, nats a token: below 0, the adapter predicts them better."""
        return None if self.adapter_loss is None else self.adapter_loss - self.base_loss


@dataclass(frozen=True, slots=True)
class _Answers:
    """Every conversation under one condition: its rows, and the class of each (rows,); how
    many were dropped, by reason, and how many cut. `longest_dropped` is in tokens."""

    rows: RowStore
    classes: np.ndarray
    dropped: Counter[str]
    longest_dropped: int
    truncated: int


def policy_of(
    found: Survey, options: DataOptions, template: Template, card: AdapterCard | None
) -> Decision:
    """The classes of a file: as the options say, else as the adapter was trained, else by name.

    Raises DataError with every problem of the file and of the options.
    """
    known = {rule.name: rule for rule in card.classes} if card else {}
    trained = {name: known[name] for name in found.classes if name in known}
    decision = decide_policy(
        found.classes,
        template,
        {name: rule.reward for name, rule in trained.items()} | dict(options.rewards),
        {name: rule.condition for name, rule in trained.items()} | dict(options.conditions),
    )
    fatal = () if options.skip_bad and found.conversations else (found.faults,)
    refuse(*fatal, settings=decision.faults)
    return decision


def evaluate(
    path: Path,
    options: DataOptions,
    template: Template,
    trainer: Trainer,
    adapter: LoraWeights | None,
    card: AdapterCard | None,
    *,
    context: int,
    batch_positions: int = 1024,
    limit: int | None = None,
    progress: Progress = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Cell]:
    """The loss of the answers in `path`, each class under the condition of each and of the
    adapter's other classes; `trainer` holds an adapter that changes nothing yet. At most
    `limit` conversations of each class, the first.

    Conversations longer than `context` tokens are cut there. `tell` gets a sentence on
    everything that is left out. Raises DataError, also if nothing is left to measure.
    """
    found = survey(path, options.class_field, template_check(template))
    decision = policy_of(found, options, template, card)
    policy = decision.policy
    conditions = _conditions(policy, card)
    cells = []
    with TemporaryDirectory(prefix="openchat-local-evaluate-") as folder:
        stores = {
            condition: _write_rows(
                found, options, policy, condition, template, context, limit, Path(folder) / str(i)
            )
            for i, condition in enumerate(conditions)
        }
        for note in (*decision.notes, *_left_out(found, policy, stores[conditions[0]], context)):
            tell(note)
        for answers in stores.values():
            if not len(answers.rows):
                reasons = why_nothing(answers.dropped, answers.longest_dropped, context)
                raise DataError(f"Nothing of {path} is left to measure: {reasons}")
        passes = len(stores) * (1 if adapter is None else 2)
        sums: dict[tuple[str, bool], np.ndarray] = {}
        for tuned in (False,) if adapter is None else (False, True):
            if tuned:
                assert adapter is not None
                trainer.set_lora(adapter)
            for condition, answers in stores.items():
                done = len(sums) / passes
                sums[condition, tuned] = _row_sums(
                    trainer, answers.rows, batch_positions, _part(progress, done, 1 / passes)
                )
        for index, rule in enumerate(policy.classes):
            for condition, answers in stores.items():
                own = answers.classes == index
                tuned_sums = None if adapter is None else sums[condition, True][own]
                if own.any():
                    cells.append(_cell(rule, condition, sums[condition, False][own], tuned_sums))
    return cells


def _conditions(policy: Policy, card: AdapterCard | None) -> tuple[str, ...]:
    """The condition of every class, best first; also of those that only the adapter knows."""
    own = {rule.name for rule in policy.classes}
    others = [rule.condition for rule in (card.classes if card else ()) if rule.name not in own]
    return tuple(dict.fromkeys([*(rule.condition for rule in policy.classes), *others]))


def _part(progress: Progress, start: float, width: float) -> Progress:
    return lambda share: progress(start + share * width)


def _write_rows(
    found: Survey,
    options: DataOptions,
    policy: Policy,
    condition: str,
    template: Template,
    context: int,
    limit: int | None,
    folder: Path,
) -> _Answers:
    """Every conversation that counts, under `condition`."""
    # A reward of 0 or 0.1 says how much to learn from an answer, not how to judge it.
    rules = tuple(replace(rule, condition=condition, reward=1.0) for rule in policy.classes)
    counts = [0] * len(rules)
    classes: list[int] = []
    dropped, longest, truncated = Counter[str](), 0, 0
    good = (
        example
        for example in read_examples(found.path, options.class_field, template_check(template))
        if isinstance(example, Example)
    )
    with RowWriter(folder) as writer:
        for example, kept in zip(good, found.kept(policy.rewards), strict=False):
            if not kept:
                continue
            weighed = weigh(example, Policy(rules), template, context)
            row = weighed.row
            if row is None:
                dropped[str(weighed.dropped)] += 1
                longest = max(longest, weighed.tokens if weighed.truncated else 0)
                continue
            if limit is not None and counts[row.class_index] >= limit:
                continue
            truncated += weighed.truncated
            counts[row.class_index] += 1
            # Numbered by conversation, not by class: so its sums come back for each.
            judged = (row.weights > 0).astype(np.float32)
            writer.append(Row(row.ids, judged, len(classes), row.line))
            classes.append(row.class_index)
    return _Answers(RowStore(folder), np.array(classes, np.int64), dropped, longest, truncated)


def _left_out(found: Survey, policy: Policy, answers: _Answers, context: int) -> Iterator[str]:
    """What of the file is not measured, or not whole."""
    yield from conflict_notes([found], policy)
    double = found.conversations - int(np.count_nonzero(found.kept(policy.rewards)))
    counts = {
        "duplicates left out": double,
        f"cut after {context:,} tokens": answers.truncated,
        **{f"dropped, {reason}": count for reason, count in answers.dropped.items()},
    }
    told = [f"{name} {count:,}" for name, count in counts.items() if count]
    if told:
        yield f"Of {found.conversations:,} conversations: {', '.join(told)}."
    yield from ignored_notes(found.ignored)
    if found.faults.lines:
        yield f"Bad lines, left out: {found.faults.lines:,}."
        yield from found.faults.listing()


def _row_sums(
    trainer: Trainer, rows: RowStore, batch_positions: int, progress: Progress
) -> np.ndarray:
    """(rows, 2) float64: nats of loss and tokens of every row."""
    sums = np.zeros((len(rows), 2))
    longest = int(rows.lengths.max(initial=1))
    layout = Layout(batch_positions, batch_positions, longest, packing=False)
    steps = plan_epoch(rows.lengths, np.zeros_like(rows.classes), 0, 0, layout)
    for number, step in enumerate(steps, 1):
        for batch in step:
            found = trainer.evaluate(build_batch(rows, batch.groups, batch.columns))
            for row, one in found.items():
                sums[row] += (one.loss, one.tokens)
        progress(number / len(steps))
    return sums


def _cell(rule: ClassRule, condition: str, base: np.ndarray, tuned: np.ndarray | None) -> Cell:
    tokens = float(base[:, 1].sum())
    losses: Sequence[float | None] = [
        None if sums is None else float(sums[:, 0].sum()) / tokens for sums in (base, tuned)
    ]
    error = 0.0
    if tuned is not None and len(base) > 1:
        # The standard error of a ratio of sums over conversations (Cochran, Sampling
        # Techniques, 3rd edition, section 6.3): residuals about the common ratio.
        change = tuned[:, 0] - base[:, 0]
        residuals = change - change.sum() / tokens * base[:, 1]
        n = len(base)
        error = math.sqrt(n / (n - 1) * float((residuals**2).sum())) / tokens
    assert losses[0] is not None
    return Cell(rule.name, condition, len(base), int(tokens), losses[0], losses[1], error)
