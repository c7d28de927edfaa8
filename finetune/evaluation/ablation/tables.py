"""An ablation's figures as tables: the ladder, each row against each, sweeps, prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from openchat_local.finetune.evaluation.ablation.figures import Difference
from openchat_local.finetune.evaluation.ablation.outcome import Outcome
from openchat_local.finetune.evaluation.ablation.prompted import InForm
from openchat_local.finetune.evaluation.ablation.recipes import BASE, Sweep
from openchat_local.finetune.evaluation.result import Table
from openchat_local.finetune.evaluation.statistics import wilson

_CERTAIN = "* told apart: the 95 % interval over conversations leaves 0 out, and all seeds agree."


def all_tables(outcome: Outcome) -> list[Table]:
    """In the order in which they are read."""
    tables = [ladder_table(outcome, 0)]
    if outcome.forms:
        tables.append(forms_table(outcome))
    if len(outcome.rows) > 1:
        tables.append(pairs_table(outcome))
    tables += [sweep_table(outcome, sweep) for sweep in outcome.ablation.sweeps]
    others = range(1, len(outcome.ablation.data.policy.classes))
    tables += [ladder_table(outcome, index) for index in others if _has(outcome, index)]
    return [*tables, *([trained_table(outcome)] if outcome.ablation.rows else [])]


def _has(outcome: Outcome, class_index: int) -> bool:
    return outcome.losses.conversations(BASE, class_index)[0] > 0


def ladder_table(outcome: Outcome, class_index: int) -> Table:
    """The loss of a class's held-out answers in every row, under every condition."""
    data, losses = outcome.ablation.data, outcome.losses
    rule = data.policy.classes[class_index]
    own = data.conditions.index(rule.condition)
    conversations, tokens = losses.conversations(BASE, class_index)
    several = outcome.seeds > 1
    rows = []
    for name, label in outcome.rows:
        found = [losses.loss(name, number, class_index) for number in range(len(data.conditions))]
        cells = [label, *(f"{one.value:.4f}" for one in found)]
        if name == BASE:
            cells += ["", *([""] if several else [])]
        else:
            cells.append(_difference(losses.difference(name, BASE, own, class_index)))
            cells += [f"{found[own].spread:.4f}"] if several else []
        rows.append(tuple(cells))
    return Table(
        f"Loss of {conversations:,} held-out {rule.name!r} answers, nats a token",
        (
            "row",
            *(f"under {condition or 'none'}" for condition in data.conditions),
            "against base",
            *(["seeds"] if several else []),
        ),
        rows,
        f"{tokens:,} tokens; against the base under {rule.condition or 'no condition'!r}. "
        f"In brackets, the 95 % interval over conversations; {_of_seeds(outcome.seeds)}",
    )


def _of_seeds(seeds: int) -> str:
    return f"means of {seeds} seeds, and how far these lie apart." if seeds > 1 else "one seed."


def trained_table(outcome: Outcome) -> Table:
    """What each row of the ladder was trained on."""
    rows = []
    for recipe in outcome.ablation.rows:
        spent = [outcome.spent[run] for run in outcome.ablation.names(recipe)]
        steps, tokens = (round(sum(part) / len(spent)) for part in zip(*spent, strict=True))
        rules = "; ".join(
            f"{rule.name} under {rule.condition or 'none'}, {rule.reward:g}"
            for rule in recipe.rules
        )
        rows.append((recipe.label, rules, f"{steps:,}", f"{tokens:,}"))
    return Table(
        "What each row was trained on",
        ("row", "class, condition and reward", "steps", "tokens read"),
        rows,
        "Condition and reward together are C-RLFT.",
    )


def pairs_table(outcome: Outcome) -> Table:
    """Every row minus every other, on the expert's answers under the expert's condition."""
    rows = []
    for name, label in outcome.rows:
        cells = [label]
        for other, _ in outcome.rows:
            if other == name:
                cells.append("–")
                continue
            found = outcome.losses.difference(name, other, 0, 0)
            cells.append(f"{found.value:+.4f}{'*' if found.certain else ''}")
        rows.append(tuple(cells))
    expert = outcome.ablation.data.policy.expert
    return Table(
        f"Each row minus each other, on {expert.name!r} answers under "
        f"{expert.condition or 'no condition'!r}",
        ("row", *(f"− {label}" for _, label in outcome.rows)),
        rows,
        f"Below 0, the row on the left predicts them better. {_CERTAIN}",
    )


def sweep_table(outcome: Outcome, sweep: Sweep) -> Table:
    """The loss of the expert's answers along a quantity, a column a series."""
    values = [value for value, _ in sweep.series[0][1]]
    several = outcome.seeds > 1
    rows = []
    for place, value in enumerate(values):
        cells = [value]
        for _, line in sweep.series:
            name = line[place][1].name
            found = outcome.losses.loss(name, 0, 0)
            cells.append(f"{found.value:.4f}")
            cells.append(_difference(outcome.losses.difference(name, BASE, 0, 0)))
            if several:
                cells.append(f"{found.spread:.4f}")
        rows.append(tuple(cells))
    columns = [sweep.x_label]
    for label, _ in sweep.series:
        columns += [label, "against base", *(["seeds"] if several else [])]
    expert = outcome.ablation.data.policy.expert
    return Table(
        f"Loss of held-out {expert.name!r} answers by the {sweep.x_label}", tuple(columns), rows
    )


def forms_table(outcome: Outcome) -> Table:
    """Of the held-out prompts, those that are answered in the expert's form."""
    assert outcome.asking is not None
    rows = [
        (
            label,
            *(
                cell
                for counts in outcome.forms[name]
                for cell in (seeds_in_words(counts), _share(counts))
            ),
        )
        for name, label in outcome.rows
    ]
    columns = ["row"]
    for condition in outcome.conditions:
        columns += [f"under {condition or 'none'}", "share"]
    return Table(
        "Answers in the expert's form",
        tuple(columns),
        rows,
        f"Greedy, by llama.cpp; the form is {outcome.asking.form.pattern!r}. "
        "In brackets, Wilson's 95 % interval over prompts"
        + ("; counts are those of each seed." if outcome.seeds > 1 else "."),
    )


def seeds_in_words(counts: Sequence[InForm]) -> str:
    """ "30, 31, 29 of 40"."""
    return f"{', '.join(str(one.count) for one in counts)} of {counts[0].asked}"


def _share(counts: Sequence[InForm]) -> str:
    mean, asked = sum(one.count for one in counts) / len(counts), counts[0].asked
    if not asked:
        return ""
    found = wilson(mean, asked)
    return f"{mean / asked:.0%} [{found.low:.0%}, {found.high:.0%}]"


def _difference(found: Difference) -> str:
    low, high = found.interval
    if low == float("-inf"):
        return f"{found.value:+.4f}"
    return f"{found.value:+.4f} [{low:+.4f}, {high:+.4f}]"


def as_markdown(title: str, sentences: Sequence[str], tables: Sequence[Table]) -> str:
    """ladder.md."""
    return "\n".join(_lines(title, sentences, tables)) + "\n"


def _lines(title: str, sentences: Sequence[str], tables: Sequence[Table]) -> Iterator[str]:
    yield f"# {title}"
    for sentence in sentences:
        yield ""
        yield sentence
    for table in tables:
        yield ""
        yield f"## {table.title}"
        yield ""
        yield _row(table.columns)
        yield _row(["---"] * len(table.columns))
        for row in table.rows:
            yield _row(row)
        if table.note:
            yield ""
            yield table.note.replace("*", r"\*")


def _row(cells: Sequence[str]) -> str:
    escaped = (" ".join(cell.split()).replace("|", r"\|").replace("*", r"\*") for cell in cells)
    return f"| {' | '.join(escaped)} |"
