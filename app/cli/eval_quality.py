"""`eval quality`: a judge grades the answers of a training file, and grades become rewards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.completing import complete_model
from openchat_local.app.cli.eval_judge import judge_options
from openchat_local.app.cli.eval_options import result_options
from openchat_local.app.cli.finetune_options import row_options, take_reading
from openchat_local.app.cli.options import template_options
from openchat_local.app.printable import printable

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.contender import Contender
    from openchat_local.finetune.evaluation.judging.judge import Judging
    from openchat_local.finetune.evaluation.quality.report import Quality
    from openchat_local.finetune.evaluation.result import Picture, Result

RULES = "linear, min-max, exp=BETA or thresholds=8:1,5:0.3,0:0"


@click.command(short_help="A judge scores training data; finer rewards.")
@click.argument("data", type=click.Path(path_type=Path))
@judge_options
@row_options
@click.option("--skip-bad", is_flag=True, help="Leave bad lines out, and list them.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N",
    help="The first N conversations of each class.",
)  # fmt: skip
@click.option(
    "--reward", metavar="RULE",
    help=f"From grade to reward: {RULES}.",
)  # fmt: skip
@click.option(
    "--write", type=click.Path(path_type=Path), metavar="FILE",
    help="The same conversations with their rewards, for finetune.",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Write over FILE, if it is there.")
@click.option(
    "-m", "--model", metavar="NAME|FILE", help="The base model.", shell_complete=complete_model
)
@click.option("--force", is_flag=True, help="Also a judge's adapter of another model.")
@template_options
@result_options
def quality(data: Path, as_json: bool, out: Path | None, **flags: Any) -> None:
    """A judge gives each answer in DATA a grade from 1 to 10: a histogram per class, and rewards.

    DATA is any file that finetune reads; of each conversation the last answer is graded, given
    all that stands before it. With --write, every conversation gets a reward of its own by the
    chosen rule, which finetune honours in place of its class's.

    \b
      openchat-local eval quality mixed.jsonl --judge openchat-3.5
      openchat-local eval quality mixed.jsonl --judge base --reward exp=2 --write finer.jsonl
    """
    from openchat_local.app.cli.eval_judge import grade_answers, take_judge, take_judging
    from openchat_local.app.cli.eval_options import finish, say_where
    from openchat_local.app.evaluations import result_folder
    from openchat_local.finetune.data.rewards import parse_rule
    from openchat_local.finetune.evaluation.keeping import check_folder
    from openchat_local.finetune.evaluation.quality.answers import read_entries
    from openchat_local.finetune.evaluation.quality.report import Quality, reward
    from openchat_local.finetune.evaluation.quality.writing import (
        RewardsUnwritten,
        check_target,
        write_rewarded,
    )
    from openchat_local.finetune.evaluation.rows import file_digest

    write, replace = flags["write"], flags["replace"]
    if write is not None and flags["reward"] is None:
        raise click.UsageError(
            f"--write needs --reward, which says what a grade is worth: {RULES}."
        )
    rule = None if flags["reward"] is None else parse_rule(flags["reward"])
    if out is not None:
        check_folder(out)
    if write is not None:
        check_target(write, data, replace=replace)
    reading = take_reading(flags)
    entries = read_entries(data, reading, limit=flags["limit"], skip_bad=flags["skip_bad"])
    for sentence in entries.taken:
        click.echo(printable(sentence), err=True)
    digest = file_digest(data)
    judge = take_judge(flags)
    say_where([judge])
    judging = take_judging(flags, judge)
    answers = [entry.answer for entry in entries.entries]
    grades = grade_answers(judge, judging, answers, force=flags["force"])
    found = Quality(entries, grades, None if rule is None else reward(rule, grades))
    told = []
    if write is not None and found.rewarded is not None and found.rewarded.rewards:
        rewards = {entries.entries[i].place: value for i, value in found.rewarded.rewards.items()}
        count = write_rewarded(
            data, digest, write, entries.places, rewards, reading, replace=replace
        )
        told = [f"Written to {write}: {count:,} conversations, {len(rewards):,} with a reward."]
    result, key = _result(found, digest, judge, judging, flags, told)
    finish(result, out or result_folder("quality", data.stem, key), as_json=as_json)
    if write is not None and not told:
        raise RewardsUnwritten(f"The judge gave no grade at all, so {write} was not written.")


def _result(
    found: Quality,
    digest: str,
    judge: Contender,
    judging: Judging,
    flags: dict[str, Any],
    told: list[str],
) -> tuple[Result, dict[str, Any]]:
    """The result, and what decides it: the file's `digest` for one."""
    from openchat_local.finetune.evaluation.quality import report
    from openchat_local.finetune.evaluation.result import Result, made_by

    path = found.entries.path
    chosen = {name: flags[name] for name in ("class_field", "limit", "reward", "skip_bad")}
    rest = ("classes", "columns", "format", "reward_field", "reward_map")
    chosen |= {name: flags[name] for name in rest if flags[name]}
    settings = {"judge": judging.as_json(), **chosen}
    notes = [*report.notes_of(found), *([judge.doubt] if judge.doubt else [])]
    pictures = _pictures(found, notes)
    result = Result(
        kind="quality",
        title=f"The answers in {path.name}, graded by {judge.label}",
        made_by=made_by("quality", [judge], [path], settings),
        summary=report.summary_of(found),
        sentences=[*report.sentences_of(found), *told],
        tables=report.tables_of(found),
        pictures=pictures,
        notes=notes,
        rows=report.rows_of(found),
    )
    return result, {"judge": judge.scoring_identity, "file": digest, "settings": settings}


def _pictures(found: Quality, notes: list[str]) -> list[Picture]:
    """The histograms; where they cannot be drawn, `notes` get the reason."""
    from openchat_local.finetune.evaluation.pictures import (
        WITHOUT_PICTURES,
        histogram_per_class,
        pictures_available,
    )
    from openchat_local.finetune.evaluation.quality.figures import EDGES

    if not pictures_available():
        notes.append(WITHOUT_PICTURES)
        return []
    grades = found.by_class()
    ordered = {one.name: grades[one.name] for one in found.figures()}
    drawing = histogram_per_class(ordered, x_label="grade", bins=EDGES)
    caption = "How the grades of each class are spread; what matters is the lower tail."
    return [drawing.named("grades", caption)]
