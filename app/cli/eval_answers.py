"""`eval answers`: questions with one right answer, which the model writes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.eval_options import (
    contender_options,
    finish,
    result_options,
    sampling_options,
)
from openchat_local.app.cli.options import engine_options

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.answers.asking import Replies
    from openchat_local.finetune.evaluation.answers.matching import Gold, Rule
    from openchat_local.finetune.evaluation.answers.questions import Questions
    from openchat_local.finetune.evaluation.contender import Contender
    from openchat_local.finetune.evaluation.result import Result

_SETTINGS = ("samples", "append", "limit", "skip_bad")


@click.command(short_help="Questions with one right answer, written out.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--match",
    default="auto",
    show_default=True,
    metavar="RULE",
    help="How an answer is found: exact, number, boxed, regex=PATTERN, or auto.",
)
@click.option(
    "--samples",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Replies to each question; the majority counts. Needs a temperature.",
)
@click.option(
    "--append", default="", metavar="TEXT", help="Put behind each question, such as how to answer."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N questions.")
@click.option("--skip-bad", is_flag=True, help="Leave out rows that cannot be used.")
@click.option(
    "--context",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    metavar="TOKENS",
    help="Of the engine; 0 is what fits.",
)
@contender_options
@engine_options
@sampling_options
@result_options
def answers(file: Path, as_json: bool, **flags: Any) -> None:
    """Ask the questions in FILE and count the right answers: base model and adapters.

    Rows have "question" (or "problem", "prompt", "messages") and "answer", as in GSM8K and MATH.
    With --match auto the right answer says what is looked for: after "#### 42" or 42 a number,
    after \\boxed{} a formula, after (B) a letter, else text. A reply says its answer behind "####",
    in \\boxed{}, or in "the answer is …"; else its last number counts, or all of its text where it
    is short. Nothing that a reply says is executed.

    \b
      openchat-local eval answers gsm8k.jsonl --adapter mine
      openchat-local eval answers gsm8k.jsonl --samples 8 --temperature 0.7
      openchat-local eval answers mine.jsonl --match 'regex=Result: (\\d+)'
    """
    from openchat_local.app.cli.eval_options import take_contenders, take_sampling
    from openchat_local.app.evaluations import result_folder
    from openchat_local.finetune.evaluation.answers.asking import check_samples
    from openchat_local.finetune.evaluation.answers.matching import gold_of, read_rule
    from openchat_local.finetune.evaluation.answers.questions import read_questions
    from openchat_local.finetune.evaluation.keeping import check_folder
    from openchat_local.finetune.evaluation.rows import file_digest

    rule = read_rule(flags["match"])
    sampling = take_sampling(flags)
    check_samples(sampling, flags["samples"])
    read = read_questions(
        file,
        lambda texts: gold_of(rule, texts) is not None,
        append=flags["append"],
        limit=flags["limit"],
        skip_bad=flags["skip_bad"],
    )
    golds = [gold for one in read.questions if (gold := gold_of(rule, one.answers)) is not None]
    contenders = take_contenders(flags, sampling=sampling)
    key = {
        "contenders": [one.identity for one in contenders],
        "labels": [one.label for one in contenders],
        "file": file_digest(file),
        "match": str(rule),
        **{name: flags[name] for name in _SETTINGS},
    }
    folder = flags["out"] or result_folder("answers", file.stem, key)
    check_folder(folder)
    replies = _replies(contenders, read, flags)
    finish(_result(contenders, read, golds, replies, rule, flags), folder, as_json=as_json)


def _replies(contenders: list[Contender], read: Questions, flags: dict[str, Any]) -> list[Replies]:
    """What each contender answered; all of it is kept as it comes."""
    from openchat_local.app.cli.progress import Bar
    from openchat_local.app.evaluations import engines, evaluations_dir
    from openchat_local.app.paths import ensure_home
    from openchat_local.finetune.evaluation.answers.asking import (
        ask_questions,
        kept_replies,
        missing,
    )
    from openchat_local.finetune.evaluation.rows import RowFile, cache_file

    ensure_home()
    samples = flags["samples"]
    files = [
        RowFile(cache_file(evaluations_dir(), "answers", {"contender": one.identity}))
        for one in contenders
    ]
    wanted = sum(len(missing(read.questions, samples, kept_replies(file))) for file in files)
    found: list[Replies] = []
    done = 0

    def count(_: object) -> None:
        nonlocal done
        done += 1
        bar.show(done)

    try:
        with (
            Bar("asking", wanted or 1) as bar,
            engines(contenders, context=flags["context"], force=flags["force"]) as engine_of,
        ):
            for contender, file in zip(contenders, files, strict=True):
                bar.show(done, label=f"asking {contender.label}")
                if not missing(read.questions, samples, kept_replies(file)):
                    found.append(kept_replies(file))
                    continue
                with file:
                    engine = engine_of(contender)
                    found.append(
                        ask_questions(engine, contender, read.questions, samples, file, count)
                    )
    except KeyboardInterrupt:
        click.echo(
            f"Stopped: {done:,} of {wanted:,} new replies are kept; the same command goes on.",
            err=True,
        )
        raise
    return found


def _result(
    contenders: list[Contender],
    read: Questions,
    golds: list[Gold],
    replies: list[Replies],
    rule: Rule,
    flags: dict[str, Any],
) -> Result:
    from openchat_local.app.cli.progress import Bar
    from openchat_local.finetune.evaluation.answers.judging import judge
    from openchat_local.finetune.evaluation.answers.matching import Reader
    from openchat_local.finetune.evaluation.answers.report import result_of

    samples = flags["samples"]
    total = len(read.questions) * len(contenders)
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        bar.show(done)

    with Bar("reading the answers", total) as bar, Reader(rule) as reader:
        found = [judge(read.questions, golds, own, samples, reader, count) for own in replies]
    return result_of(
        contenders,
        read,
        found,
        replies,
        rule,
        {**{name: flags[name] for name in _SETTINGS}, "match": str(rule)},
    )
