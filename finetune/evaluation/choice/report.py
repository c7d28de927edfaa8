"""The result of a test of multiple choice: tables, sentences, rows, figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from openchat_local.finetune.evaluation.choice.judging import (
    Change,
    Judged,
    Share,
    Standing,
    choice_of,
    pooled,
    standings,
)
from openchat_local.finetune.evaluation.choice.measuring import By
from openchat_local.finetune.evaluation.choice.reading import QuestionSet
from openchat_local.finetune.evaluation.choice.session import Findings
from openchat_local.finetune.evaluation.choice.wording import SIGNIFICANT, sentences
from openchat_local.finetune.evaluation.contender import Contender
from openchat_local.finetune.evaluation.result import Result, Table
from openchat_local.models.units import time_in_words

_LISTED = 10  # of the questions that are too long; all are in the rows
_WHOLE = "all sets"
# A letter that is right, or is chosen, in more than this share of so many questions is told of.
_ONE_SIDED, _ENOUGH = 0.7, 20


def report(
    title: str,
    contenders: Sequence[Contender],
    sets: Sequence[QuestionSet],
    findings: Findings,
    made_by: Mapping[str, Any],
) -> Result:
    """The result of `findings`, with the first contender that is a bare model as the base."""
    base = next((one.label for one in contenders if one.is_base), None)
    judged = findings.judged(sets)
    each = [one for judged_set in judged for one in standings(judged_set, base)]
    whole = standings(pooled(judged, _WHOLE), base)
    shown = [*each, *(whole if len(sets) > 1 else [])]
    cost = _costs(findings)
    return Result(
        kind="choice",
        title=title,
        made_by=made_by,
        summary={
            "method": findings.method.as_json(),
            "standings": [_as_json(one) for one in shown],
            "too_long": [_too_long_json(one) for one in findings.too_long(sets)],
            "left_out": {one.name: list(one.left_out) for one in sets if one.left_out},
            "cost": cost,
        },
        sentences=sentences(each, whole),
        tables=[*_tables(shown, sets, findings.method.by), _cost_table(cost, findings)],
        notes=[*_notes(sets, findings, judged, sum(one.change is not None for one in each))],
        rows=_rows(sets, findings),
    )


def _tables(shown: Sequence[Standing], sets: Sequence[QuestionSet], by: By) -> Iterator[Table]:
    what = "letters answered" if by == "answer" else "likelihood of the options (acc)"
    yield _shares(f"Right answers, by {what}", shown, by, lambda one: one.acc)
    # Options of the same length each are chosen alike either way.
    normed = by == "likelihood" and any(
        len({len(text) for text in question.continuations}) > 1
        for one in sets
        for question in one.questions
    )
    if normed:
        title = "Right answers, by likelihood a character (acc_norm)"
        yield _shares(title, shown, by, lambda one: one.acc_norm)
    changed = [one for one in shown if one.change is not None]
    if changed:
        yield _changes("Against the base", changed, lambda one: one.change)
        if normed:
            title = "Against the base, by likelihood a character (acc_norm)"
            yield _changes(title, changed, lambda one: one.change_norm)


def _shares(
    title: str, shown: Sequence[Standing], by: By, share_of: Callable[[Standing], Share]
) -> Table:
    columns = ["set", "model", "questions", "right %", "95 %", "chance %", "is"]
    rows = []
    for one in shown:
        share = share_of(one)
        low, high = share.interval
        row = [one.set_name, one.contender, f"{share.count:,}", _percent(share.value)]
        row += [f"{_percent(low)}–{_percent(high)}", _percent(one.chance)]
        row += [share.against(one.chance)]
        rows.append((*row, f"{one.unread:,}") if by == "answer" else tuple(row))
    note = "Wilson's intervals; the last column says where they are to chance."
    if by == "answer":
        columns.append("unread")
        note = "Wilson's intervals, which are above, at or below chance; unread answers are wrong."
    return Table(title, tuple(columns), rows, note)


def _changes(
    title: str, shown: Sequence[Standing], change_of: Callable[[Standing], Change | None]
) -> Table:
    rows = [
        (one.set_name, one.contender, f"{change.points:+.1f}", f"{change.lost:,}",
         f"{change.won:,}", f"{change.p:.3f}" if change.p >= 0.001 else f"{change.p:.1e}")
        for one in shown
        if (change := change_of(one)) is not None
    ]  # fmt: skip
    note = "Points; questions that the base alone got right, and the other alone; McNemar's p."
    return Table(title, ("set", "model", "change", "lost", "won", "p"), rows, note)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _costs(findings: Findings) -> dict[str, dict[str, Any]]:
    costs = {}
    for label, of in findings.of.items():
        tokens = sum(one.get("tokens", 0) for one in of.values())
        seconds = sum(one.get("seconds", 0.0) for one in of.values())
        costs[label] = {
            "questions": len(of),
            "tokens": tokens,
            "shared_tokens": sum(one.get("shared", 0) for one in of.values()),
            "seconds": round(seconds, 2),
            "tokens_per_second": round(tokens / seconds, 1) if seconds else 0.0,
        }
    return costs


def _cost_table(costs: Mapping[str, Mapping[str, Any]], findings: Findings) -> Table:
    scored = findings.method.by == "likelihood"
    columns = ["model", "questions", "tokens evaluated" if scored else "tokens written"]
    columns += ["shared"] if scored else []
    rows = []
    for label, cost in costs.items():
        row = [label, f"{cost['questions']:,}", f"{cost['tokens']:,}"]
        row += [f"{cost['shared_tokens']:,}"] if scored else []
        row += [f"{cost['seconds']:.1f}", f"{cost['tokens_per_second']:,.0f}"]
        rows.append(tuple(row))
    note = "Shared tokens were evaluated for another option or question." if scored else ""
    return Table("What it took", (*columns, "seconds", "tokens/s"), rows, note)


def _notes(
    sets: Sequence[QuestionSet], findings: Findings, judged: Sequence[Judged], tests: int
) -> Iterator[str]:
    for one in sets:
        for sentence in one.left_out:
            yield f"Left out of {one.name}: {sentence}."
    long = [*findings.too_long(sets)]
    if long:
        count = len({(one.set_name, one.line) for one in long})
        few = "question is" if count == 1 else "questions are"
        yield f"{count:,} {few} longer than the context, and counted apart:"
    for over in long[:_LISTED]:
        yield (
            f"{over.set_name}, line {over.line}: {over.tokens:,} tokens for {over.contender}, and "
            f"the context holds {over.context:,}."
        )
    if len(long) > _LISTED:
        yield f"… and {len(long) - _LISTED:,} more, in rows.jsonl."
    for asked in judged:
        yield from _one_sided(asked)
    if tests > 1:
        yield (
            f"Each of the {tests} changes was tested by itself: where there is none, one test in "
            f"{round(1 / SIGNIFICANT)} still calls it significant."
        )
    seconds = sum(cost["seconds"] for cost in _costs(findings).values())
    again = "" if findings.fresh else ", at an earlier time"
    yield f"Measuring took {time_in_words(seconds)}{again}."


def _one_sided(judged: Judged) -> Iterator[str]:
    """Whether one letter is right nearly always, and who chose one nearly always: then figures
    say more about liking a letter than about knowing answers."""
    total = len(judged.questions)
    if total < _ENOUGH:
        return
    right = Counter(
        question.letters[index] for question in judged.questions for index in question.right
    )
    letter, count = right.most_common(1)[0]
    if count > _ONE_SIDED * total:
        yield (
            f"In {judged.name} {letter} is right in {count:,} of {total:,} questions: who likes "
            f"{letter} shines there and knows nothing."
        )
    for label, choices in judged.choices.items():
        chosen = Counter(
            _letter(question.letters, one.pick)
            for question, one in zip(judged.questions, choices, strict=True)
        )
        liked, count = chosen.most_common(1)[0]
        if liked is not None and count > _ONE_SIDED * total:
            yield (
                f"In {judged.name} {label} chose {liked} in {count:,} of {total:,} questions: "
                "liking a letter is not telling options apart."
            )


def _as_json(one: Standing) -> dict[str, Any]:
    return {
        "set": one.set_name,
        "contender": one.contender,
        "questions": one.acc.count,
        "chance": one.chance,
        "unread": one.unread,
        "acc": _share_json(one.acc, one.chance),
        "acc_norm": _share_json(one.acc_norm, one.chance),
        "change": _change_json(one.change),
        "change_norm": _change_json(one.change_norm),
    }


def _share_json(share: Share, chance: float) -> dict[str, Any]:
    low, high = share.interval
    against = share.against(chance)
    return {"right": share.right, "share": share.value, "low": low, "high": high, "is": against}


def _change_json(change: Change | None) -> dict[str, Any] | None:
    if change is None:
        return None
    return {
        "points": change.points,
        "lost": change.lost,
        "won": change.won,
        "p": change.p,
        "significant": change.p < SIGNIFICANT,
    }


def _too_long_json(over: Any) -> dict[str, Any]:
    return {
        "set": over.set_name,
        "line": over.line,
        "contender": over.contender,
        "tokens": over.tokens,
        "context": over.context,
    }


def _rows(sets: Sequence[QuestionSet], findings: Findings) -> Iterator[dict[str, Any]]:
    """A row a question and contender, in the order of the files."""
    for one in sets:
        for question in one.questions:
            for label in findings.of:
                finding = findings.finding(label, question)
                row: dict[str, Any] = {"set": one.name, "line": question.line, "model": label}
                row |= {} if question.id is None else {"id": question.id}
                if "too_long" not in finding:
                    chosen = choice_of(question, finding)
                    row |= {
                        "right": [question.letters[index] for index in question.right],
                        "chosen": _letter(question.letters, chosen.pick),
                        "chosen_norm": _letter(question.letters, chosen.pick_norm),
                        "correct": chosen.pick in question.right,
                        "correct_norm": chosen.pick_norm in question.right,
                    }
                yield row | {key: value for key, value in finding.items() if key != "question"}


def _letter(letters: Sequence[str], index: int | None) -> str | None:
    return None if index is None else letters[index]
