"""`eval choice`: multiple choice, by likelihood or by the letter that is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.eval_options import (
    contender_options,
    finish,
    result_options,
    take_contenders,
)
from openchat_local.app.cli.options import engine_options
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.choice.measuring import Method
    from openchat_local.finetune.evaluation.choice.reading import QuestionSet
    from openchat_local.finetune.evaluation.choice.session import Findings
    from openchat_local.finetune.evaluation.contender import Contender

MAX_TOKENS = 32


@click.command(short_help="Multiple choice: right answers, and what was forgotten.")
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR|SUITE...")
@contender_options
@engine_options
@click.option(
    "--by",
    type=click.Choice(["likelihood", "answer"]),
    default="likelihood",
    show_default=True,
    help="The likeliest option, or the first letter of what is answered.",
)
@click.option("--plain", is_flag=True, help="By likelihood: bare text, no chat template.")
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    default=MAX_TOKENS,
    show_default=True,
    metavar="N",
    help="By answer: the longest answer, in tokens.",
)
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="The first N questions of each set."
)
@click.option("--skip-bad", is_flag=True, help="Leave bad rows out, and list them.")
@click.option(
    "--context",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    metavar="TOKENS",
    help="Context size.",
)
@result_options
def choice(files: tuple[str, ...], **flags: Any) -> None:
    """Ask questions that have a right option, and say how many each contender gets right.

    A file is a set, with a question a line: rows of AGIEval, BBH, TruthfulQA, MMLU, ARC, HellaSwag
    or Winogrande. A folder is all files in it. Each adapter is compared with the base on the same
    questions, which says whether fine-tuning made it forget.

    \b
      openchat-local eval choice sat-en.jsonl --adapter mine
      openchat-local eval choice questions/ --by answer
    """  # fmt: skip
    paths, suites = _paths(files)
    if suites == len(files):  # their known faults are no mistake of whoever asks
        flags["skip_bad"] = True
    run_choice(paths, ", ".join(Path(word).stem or word for word in files), flags)


def _paths(words: Sequence[str]) -> tuple[list[Path], int]:
    """The files and folders that `words` name, and how many of these are suites."""
    from openchat_local.app.suites import SUITES, suite_files

    paths: list[Path] = []
    suites = 0
    for word in words:
        path = Path(word).expanduser()
        if word in SUITES and not path.exists():
            paths += suite_files(word)
            suites += 1
        else:
            paths.append(path)
    return paths, suites


def run_choice(files: Sequence[Path], title: str, flags: Mapping[str, Any]) -> None:
    """Ask all contenders the questions in `files`, keep the result and show it. `title` is what
    the questions are called together; flags that are missing are as the command has them.

    Raises OpenChatError. KeyboardInterrupt goes on to the caller, after a sentence.
    """
    from openchat_local.app.evaluations import result_folder
    from openchat_local.finetune.evaluation.choice.measuring import Method
    from openchat_local.finetune.evaluation.choice.reading import read_sets
    from openchat_local.finetune.evaluation.choice.report import report
    from openchat_local.finetune.evaluation.keeping import check_folder
    from openchat_local.finetune.evaluation.result import made_by

    method = Method(
        flags.get("by", "likelihood"),
        flags.get("plain", False),
        flags.get("max_tokens", MAX_TOKENS),
    )
    if method.plain and method.by == "answer":
        raise click.UsageError("--plain is for likelihoods: an answer needs the chat template.")
    limit = flags.get("limit")
    sets = read_sets(files, skip_bad=flags.get("skip_bad", False), limit=limit)
    contenders = take_contenders(flags, sampling=_greedy(method))
    settings = {**method.as_json(), "limit": limit, "skip_bad": flags.get("skip_bad", False)}
    made = made_by("choice", contenders, [one.path for one in sets], settings)
    key = {name: made[name] for name in ("contenders", "files", "settings")}
    folder = flags.get("out") or result_folder("choice", title, key)
    check_folder(folder)
    findings = _find(contenders, sets, method, flags)
    how = "by letters answered" if method.by == "answer" else "by likelihood"
    heading = f"Multiple choice: {title}, {how}{', plain text' if method.plain else ''}"
    result = report(heading, contenders, sets, findings, made)
    finish(result, folder, as_json=flags.get("as_json", False))


def _find(
    contenders: Sequence[Contender],
    sets: Sequence[QuestionSet],
    method: Method,
    flags: Mapping[str, Any],
) -> Findings:
    from openchat_local.app.cli.progress import Bar
    from openchat_local.app.evaluations import engines, evaluations_dir
    from openchat_local.finetune.evaluation.choice.session import Findings, find_all

    context = flags.get("context", 0)
    findings = Findings(method)
    with (
        engines(contenders, context=context, force=flags.get("force", False)) as engine_of,
        Bar("loading", 1.0) as bar,
    ):
        try:
            return find_all(
                contenders, sets, method, engine_of, evaluations_dir(),
                context=context,
                found=findings,
                progress=lambda label, share: bar.show(share, label=f"asking {label}"),
            )  # fmt: skip
        except (KeyboardInterrupt, OpenChatError):
            _say_what_is_kept(findings, sets, len(contenders))
            raise


def _say_what_is_kept(findings: Findings, sets: Sequence[QuestionSet], contenders: int) -> None:
    kept = sum(map(len, findings.of.values()))
    if kept:
        total = contenders * len(
            {findings.method.key(one) for each in sets for one in each.questions}
        )
        click.echo(
            f"{kept:,} of {total:,} answers are kept: the same command goes on from there.",
            err=True,
        )


def _greedy(method: Method) -> Any:
    from dataclasses import replace

    from openchat_local.finetune.evaluation.contender import GREEDY

    return replace(GREEDY, max_tokens=method.max_tokens) if method.by == "answer" else GREEDY
