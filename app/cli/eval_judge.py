"""A model as the judge: which, how it is asked, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from openchat_local.app.cli.completing import complete_model
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.contender import Contender
    from openchat_local.finetune.evaluation.judging.grading import Answer, Grade
    from openchat_local.finetune.evaluation.judging.judge import Judging
    from openchat_local.models.engine.protocol import Engine

Command = TypeVar("Command", bound=Callable[..., Any])

_WHO = "Who judges: a model, an adapter, 'base', or pairs such as 'adapter=…,condition=…'"
_OPTIONS = (
    click.option(
        "--judge-by", type=click.Choice(["answer", "likelihood"]), default="answer",
        show_default=True, help="How it judges; likelihood is for small models.",
    ),
    click.option(
        "--judge-tokens", type=click.IntRange(1, 2**31 - 1), default=256, show_default=True,
        help="The longest judgement; a longer one is none.",
    ),
    click.option(
        "--judge-seconds", type=click.FloatRange(0, min_open=True), default=1800.0,
        show_default=True, help="How long a judgement may take; a later one is none.",
    ),
)  # fmt: skip


def judge_options(command: Command, *, required: bool = True) -> Command:
    """Options that `take_judge` and `take_judging` understand; unless one is required, there may
    be no judge."""
    for option in reversed(_OPTIONS):
        command = option(command)
    who = f"{_WHO}." if required else f"{_WHO}; without one, you do."
    return click.option(
        "--judge", required=required, metavar="CONTENDER", shell_complete=complete_model, help=who
    )(command)


def take_judge(flags: Mapping[str, Any]) -> Contender:
    """Who judges. Raises ContenderError, ModelFileError or AdapterError."""
    from openchat_local.app.contenders import BASE, ContenderError, parse_contender
    from openchat_local.app.settings.remote_models import remote_model
    from openchat_local.models.library.resolve import model_name

    text = flags["judge"]
    if not text.strip():
        raise ContenderError("--judge names nobody: give a model, an adapter or 'base'.")
    is_pairs = "=" in text and not Path(text).expanduser().exists()
    if text != BASE and (is_pairs or _is_adapter(text)):
        return parse_contender(text, flags)
    if remote_model(text, ()) is not None:
        return parse_contender(text, flags)
    judge = parse_contender(BASE, flags if text == BASE else {**flags, "model": text})
    return judge if judge.remote is not None else replace(judge, label=model_name(judge.model))


def _is_adapter(text: str) -> bool:
    """Whether `text` names an adapter, installed or a file, and not a model."""
    from openchat_local.app.engine import adapter_path
    from openchat_local.models.gguf import read_gguf

    try:
        path = adapter_path(text)
        return path is not None and read_gguf(path).metadata.get("general.type") == "adapter"
    except (OpenChatError, OSError):
        return False  # as a model it has the better sentence


def take_judging(flags: Mapping[str, Any], judge: Contender) -> Judging:
    """How it judges."""
    from openchat_local.finetune.evaluation.judging.judge import Judging

    return Judging(
        flags["judge_by"],
        flags["judge_tokens"],
        flags["judge_seconds"],
        judge.choice,
        judge.condition,
    )


def grade_answers(
    judge: Contender, judging: Judging, answers: Sequence[Answer], *, force: bool
) -> list[Grade]:
    """The grade of every answer, in their order, with a bar; those that were given before are
    read. On Ctrl-C says how many are kept. Raises EngineError or RowsUnwritten."""
    from openchat_local.app.cli.progress import Bar
    from openchat_local.app.evaluations import engines, evaluations_dir
    from openchat_local.app.paths import ensure_home
    from openchat_local.finetune.evaluation.judging.kept import grade_with, grades_key
    from openchat_local.finetune.evaluation.rows import RowFile, cache_file

    ensure_home()
    path = cache_file(evaluations_dir(), "grades", grades_key(judge, judging))
    done = 0

    def show(count: int) -> None:
        nonlocal done
        done = count
        bar.show(count)

    try:
        with (
            engines([judge], force=force) as engine_of,
            RowFile(path) as kept,
            Bar("judging", len(answers)) as bar,
        ):

            def loaded() -> Engine:
                engine = engine_of(judge)
                engine.load()  # what cannot be loaded is no fault of the answers
                return engine

            return grade_with(loaded, answers, kept, judging, on_grades=show)
    except KeyboardInterrupt:
        click.echo(
            f"Stopped: {done:,} of {len(answers):,} answers are judged and kept; the same command "
            "goes on from there.",
            err=True,
        )
        raise
