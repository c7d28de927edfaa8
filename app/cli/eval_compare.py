"""`eval compare`: two contenders answer the same prompts, and somebody says who did better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.completing import complete_adapter_or_file, complete_model
from openchat_local.app.cli.eval_compare_steps import (
    CompareError,
    answers_of,
    judged_by_hand,
    judged_by_model,
    why_not_judged,
)
from openchat_local.app.cli.eval_judge import judge_options
from openchat_local.app.cli.eval_options import result_options, sampling_options
from openchat_local.app.cli.options import engine_options, template_options
from openchat_local.app.wording import counted

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.compare.answers import Answers
    from openchat_local.finetune.evaluation.compare.figures import Judged
    from openchat_local.finetune.evaluation.compare.prompts import PromptFile
    from openchat_local.finetune.evaluation.contender import Contender
    from openchat_local.finetune.evaluation.result import Result

BY_HAND = "by hand"


@click.command(short_help="Two contenders answer the same prompts, judged blind.")
@click.argument("a", shell_complete=complete_adapter_or_file)
@click.argument("b", shell_complete=complete_adapter_or_file)
@click.option(
    "--prompts", required=True, type=click.Path(path_type=Path), metavar="FILE",
    help="What is asked: MT-bench, Vicuna-bench, AlpacaEval, training data, or lines.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N prompts.")
@click.option(
    "--category", "categories", multiple=True, metavar="NAME",
    help="Prompts of this category alone; repeatable.",
)  # fmt: skip
@partial(judge_options, required=False)
@click.option("--reveal", is_flag=True, help="The figures of what you have judged so far.")
@click.option(
    "-m", "--model", metavar="NAME|FILE", help="The base model.", shell_complete=complete_model
)
@click.option("--force", is_flag=True, help="Also adapters that were trained on another model.")
@template_options
@engine_options
@sampling_options
@result_options
def compare(a: str, b: str, **flags: Any) -> None:
    """Two contenders answer the same prompts, and you say which answer is better: blind.

    A and B are each 'base', an adapter, MODEL@ENGINE, or pairs of what they differ in:
    'adapter=mine,condition=Math Correct,temperature=0.7,model=openchat-3.5,engine=NAME'.

    \b
      openchat-local eval compare mine base --prompts questions.txt
      openchat-local eval compare mine base --prompts questions.jsonl --judge openchat-3.5
    """
    from openchat_local.app.cli.eval_judge import take_judge, take_judging
    from openchat_local.app.cli.eval_options import finish, say_where, take_sampling
    from openchat_local.app.contenders import parse_contender
    from openchat_local.finetune.evaluation.compare.pairs import pair_up
    from openchat_local.finetune.evaluation.compare.prompts import read_prompts
    from openchat_local.finetune.evaluation.keeping import check_folder

    if flags["out"] is not None:
        check_folder(flags["out"])  # before anything is written, not after
    file = read_prompts(flags["prompts"], limit=flags["limit"], categories=flags["categories"])
    sampling = take_sampling(flags)
    both = parse_contender(a, flags, sampling), parse_contender(b, flags, sampling)
    if both[0].identity == both[1].identity:
        raise CompareError(
            f"{a} and {b} are one and the same, to the last setting: name two that differ, such "
            "as an adapter and 'base', or 'base' and 'condition=…'."
        )
    judge = None if flags["judge"] is None else take_judge(flags)
    say_where(both if judge is None else (*both, judge))
    force, reveal, seed = flags["force"], flags["reveal"], flags["seed"]
    why_not = None if judge is not None else why_not_judged(reveal=reveal)
    answers = answers_of(both, file.prompts, force=force, why_not=why_not)
    identities = both[0].identity, both[1].identity
    dialogues = [one.dialogues for one in answers]
    pairs = pair_up(file.prompts, dialogues[0], dialogues[1], identities, seed)
    unanswered = [*_unanswered(file, answers)]
    if not pairs:
        raise CompareError("\n  ".join(["No prompt was answered by both:", *unanswered]))
    notes = [*file.notes, *_doubts(both, judge), *unanswered]
    if judge is not None:
        judging = take_judging(flags, judge)
        judged = judged_by_model(judge, judging, pairs, force=force)
        by: dict[str, Any] = {"judge": judge.as_json(), "judging": judging.as_json()}
    else:
        voted = judged_by_hand(pairs, identities, seed, reveal=reveal)
        if voted is None:
            return
        judged, by = voted, {"judge": BY_HAND}
        if len(judged) < len(pairs):
            notes.append(f"Not judged yet: {counted(len(pairs) - len(judged), 'pair')}.")
    asked = {"seed": seed, "limit": flags["limit"], "categories": [*flags["categories"]]}
    result = _result((a, b), both, file, judged, notes, asked | by)
    finish(result, flags["out"] or _folder(both, file, by, seed), as_json=flags["as_json"])


def _doubts(both: Sequence[Contender], judge: Contender | None) -> Iterator[str]:
    """What speaks against believing the result."""
    yield from (one.doubt for one in (*both, judge) if one is not None and one.doubt)
    for name, one in zip("AB", both, strict=True):
        if judge is not None and judge.scoring_identity == one.scoring_identity:
            yield f"The judge is {name} itself, and models tend to like what they would say."


def _unanswered(file: PromptFile, answers: Sequence[Answers]) -> Iterator[str]:
    """Prompts that one of both has no answer to."""
    for prompt in file.prompts:
        for name, one in zip("AB", answers, strict=True):
            if prompt.digest in one.failures:
                reason = one.failures[prompt.digest]
                yield f"Line {prompt.line} is not answered by {name}, and not judged: {reason}"


def _folder(both: Sequence[Contender], file: PromptFile, by: dict[str, Any], seed: int) -> Path:
    from openchat_local.app.evaluations import result_folder

    prompts = [prompt.digest for prompt in file.prompts]
    identities = [one.identity for one in both]
    key = {"prompts": prompts, "contenders": identities, "seed": seed, **by}
    return result_folder("compare", file.path.stem, key)


def _result(
    labels: tuple[str, str],
    both: tuple[Contender, Contender],
    file: PromptFile,
    judged: Sequence[Judged],
    notes: Sequence[str],
    settings: dict[str, Any],
) -> Result:
    from openchat_local.finetune.evaluation.compare import report
    from openchat_local.finetune.evaluation.compare.figures import figures_of
    from openchat_local.finetune.evaluation.result import Result, made_by

    figures = figures_of(judged)
    by_hand = settings["judge"] == BY_HAND
    return Result(
        kind="compare",
        title=f"A: {labels[0]}, B: {labels[1]}, on {file.path.name}, judged "
        + ("by hand" if by_hand else f"by {settings['judge']['label']}"),
        made_by=made_by("compare", both, [file.path], settings),
        summary=report.summary_of(figures, *labels),
        sentences=report.sentences_of(figures, *labels),
        tables=report.tables_of(figures),
        notes=[*notes, *report.notes_of(figures, judged)],
        rows=report.rows_of(judged),
    )
