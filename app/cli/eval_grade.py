"""`eval grade`: contenders answer the same prompts, and a judge grades each answer by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.completing import complete_adapter_or_file, complete_model
from openchat_local.app.cli.eval_judge import judge_options
from openchat_local.app.cli.eval_options import result_options, sampling_options
from openchat_local.app.cli.options import template_options
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.compare.answers import Answers
    from openchat_local.finetune.evaluation.compare.prompts import PromptFile
    from openchat_local.finetune.evaluation.contender import Contender
    from openchat_local.finetune.evaluation.grades.figures import ContenderFigures
    from openchat_local.finetune.evaluation.grades.graded import GradedTurn
    from openchat_local.finetune.evaluation.result import Picture, Result
    from openchat_local.models.engine.protocol import Sampling


class GradeError(OpenChatError):
    """Contenders that cannot be graded."""


@click.command(short_help="Answers graded from 1 to 10 by a judge.")
@click.argument(
    "contenders", nargs=-1, required=True, metavar="A…", shell_complete=complete_adapter_or_file
)
@click.option(
    "--prompts", required=True, type=click.Path(path_type=Path), metavar="FILE",
    help="What is asked: MT-bench, Vicuna-bench, AlpacaEval, training data, or lines.",
)  # fmt: skip
@judge_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N prompts.")
@click.option(
    "--category", "categories", multiple=True, metavar="NAME",
    help="Prompts of this category alone; repeatable.",
)  # fmt: skip
@click.option(
    "-m", "--model", metavar="NAME|FILE", help="The base model.", shell_complete=complete_model
)
@click.option("--force", is_flag=True, help="Also adapters that were trained on another model.")
@template_options
@sampling_options
@result_options
def grade(contenders: tuple[str, ...], as_json: bool, out: Path | None, **flags: Any) -> None:
    """Each A answers the prompts in FILE, and a judge grades every answer from 1 to 10.

    An A is 'base', an adapter, or pairs such as 'adapter=mine,condition=Math Correct'. The
    first is what the others are held against, answer by answer.

    \b
      openchat-local eval grade base mine --prompts questions.txt --judge openchat-3.5
    """
    from openchat_local.app.cli.eval_compare_steps import answers_of
    from openchat_local.app.cli.eval_judge import grade_answers, take_judge, take_judging
    from openchat_local.app.cli.eval_options import finish, say_where, take_sampling
    from openchat_local.finetune.evaluation.compare.prompts import read_prompts
    from openchat_local.finetune.evaluation.grades.graded import GradedTurn, questions, turns_of
    from openchat_local.finetune.evaluation.keeping import check_folder

    if out is not None:
        check_folder(out)
    file = read_prompts(flags["prompts"], limit=flags["limit"], categories=flags["categories"])
    all_of_them = _take(contenders, flags, take_sampling(flags))
    judge = take_judge(flags)
    say_where([*all_of_them, judge])
    judging, force = take_judging(flags, judge), flags["force"]
    answers = answers_of(all_of_them, file.prompts, force=force)
    dialogues = [one.dialogues for one in answers]
    turns = turns_of(file.prompts, dialogues)
    notes = [*file.notes, *(one.doubt for one in (*all_of_them, judge) if one.doubt)]
    notes += _unanswered(file, contenders, answers)
    if not turns:
        raise GradeError("\n  ".join(["No prompt was answered:", *notes]))
    grades = grade_answers(judge, judging, questions(turns, dialogues), force=force)
    graded = [GradedTurn(turn, found) for turn, found in zip(turns, grades, strict=True)]
    chosen = {"limit": flags["limit"], "categories": [*flags["categories"]]}
    settings = {"judge": judge.as_json(), "judging": judging.as_json(), **chosen}
    result = _result(file, all_of_them, graded, settings, notes)
    finish(result, out or _folder(file, all_of_them, settings), as_json=as_json)


def _result(
    file: PromptFile,
    contenders: Sequence[Contender],
    graded: Sequence[GradedTurn],
    settings: dict[str, Any],
    notes: list[str],
) -> Result:
    from openchat_local.finetune.evaluation.grades import report
    from openchat_local.finetune.evaluation.grades.figures import figures_of
    from openchat_local.finetune.evaluation.result import Result, made_by

    labels = [one.label for one in contenders]
    figures = figures_of(graded, labels)
    notes = [*notes, *report.notes_of(figures, graded)]
    pictures = _pictures(figures, notes)
    return Result(
        kind="grade",
        title=f"{', '.join(labels)} on {file.path.name}, graded by {settings['judge']['label']}",
        made_by=made_by("grade", contenders, [file.path], settings),
        summary=report.summary_of(figures, graded),
        sentences=report.sentences_of(figures),
        tables=report.tables_of(figures, graded),
        pictures=pictures,
        notes=notes,
        rows=report.rows_of(graded, labels),
    )


def _folder(file: PromptFile, contenders: Sequence[Contender], settings: dict[str, Any]) -> Path:
    from openchat_local.app.evaluations import result_folder

    identities = [one.identity for one in contenders]
    prompts = [prompt.digest for prompt in file.prompts]
    key = {"of": identities, "prompts": prompts, "settings": settings}
    return result_folder("grade", file.path.stem, key)


def _take(names: Sequence[str], flags: dict[str, Any], sampling: Sampling) -> list[Contender]:
    from openchat_local.app.contenders import parse_contender

    found: list[Contender] = []
    for name in names:
        one = parse_contender(name, flags, sampling)
        for other in found:
            if other.identity == one.identity:
                raise GradeError(
                    f"{other.label} and {name} are one and the same, to the last setting: name "
                    "each once, or give one something else, such as 'base' and 'condition=…'."
                )
        found.append(one)
    return found


def _unanswered(
    file: PromptFile, names: Sequence[str], answers: Sequence[Answers]
) -> Iterator[str]:
    for prompt in file.prompts:
        for name, one in zip(names, answers, strict=True):
            if prompt.digest in one.failures:
                reason = one.failures[prompt.digest]
                yield f"Line {prompt.line} is not answered by {name}, and not graded: {reason}"


def _pictures(figures: Sequence[ContenderFigures], notes: list[str]) -> list[Picture]:
    """The mean grades; where they cannot be drawn, `notes` get the reason."""
    from openchat_local.finetune.evaluation.pictures import (
        WITHOUT_PICTURES,
        Estimate,
        bars_with_intervals,
        pictures_available,
    )

    if not pictures_available():
        notes.append(WITHOUT_PICTURES)
        return []
    means = [Estimate(one.all.mean, *one.all.interval) for one in figures]
    labels = [one.label for one in figures]
    drawing = bars_with_intervals(labels, {"": means}, value_label="mean grade", from_zero=False)
    caption = "Mean grades, with the intervals that they have when prompts are drawn anew."
    return [drawing.named("grades", caption)]
